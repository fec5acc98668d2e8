/** Which TensorFlow.js the demo computes with: the native binding where it can be loaded, WebAssembly where it cannot. */
import { setBackend } from '@tensorflow/tfjs-core'
import { useWasm } from './wasm-products.js'

export const backends = ['node', 'wasm'] as const
export type Backend = (typeof backends)[number]

/**
 * To be called once, before anything is computed.
 * @param forced the one backend to take; without it, `node` if its binding loads, otherwise `wasm`
 * @returns what computes, in words
 * @throws Error if `node` is forced and its binding cannot be loaded
 */
export async function startTensorFlow(forced?: Backend): Promise<string> {
  if (forced !== 'wasm') {
    const failure = await loadBinding()
    if (failure === undefined) {
      await setBackend('tensorflow')
      return 'TensorFlow.js on TensorFlow (tfjs-node)'
    }
    if (forced === 'node') {
      throw new Error(
        '--backend node: the binding of @tensorflow/tfjs-node cannot be loaded; `npm test` makes it where it can be made, ' +
          `--backend wasm works without it (${failure.message.split('\n')[0]})`,
        { cause: failure },
      )
    }
  }
  await useWasm()
  return 'TensorFlow.js on WebAssembly'
}

async function loadBinding(): Promise<Error | undefined> {
  // TensorFlow reads these when it is loaded: no messages but errors, and sums in the same order on every x64 processor.
  process.env.TF_CPP_MIN_LOG_LEVEL ??= '3'
  process.env.TF_ENABLE_ONEDNN_OPTS ??= '0'
  try {
    await import('@tensorflow/tfjs-node')
    return undefined
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error))
  }
}
