/** MiniLM in transformers.js with adapters of `@fourierft/transformers`. */
import type { Adapter, AdapterSource } from '@fourierft/core'
import { attach, type ModelAdapters } from '@fourierft/transformers'
import { type FeatureExtractionPipeline, pipeline } from '@huggingface/transformers'
import { MODEL, useLocalModel } from '../local-model.js'

/** The name of an adapter; null means no adapter. */
export type Choice = string | null

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
    await useLocalModel(document.baseURI)
    const extract = await pipeline('feature-extraction', MODEL, { dtype: 'fp32', device: 'wasm' })
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
