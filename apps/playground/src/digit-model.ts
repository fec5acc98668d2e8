/** The digits transformer with one FourierFT adapter on the current backend: what the page trains, asks and saves. */
import type { Adapter, AdapterSource } from '@fourierft/core'
import {
  classes,
  type DigitSet,
  fineTune,
  fourierSettings,
  loadWeights,
  pick,
  type Score,
  targetModules,
  toImages,
  training,
  visionTransformer,
} from '@fourierft/quickstart/browser'
import { type Adapters, attach, disposeTables } from '@fourierft/tfjs'
import type * as tf from '@tensorflow/tfjs-core'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import type { Data } from './fetch-data.js'

/** Which model answers. */
export type Who = 'frozen' | 'tuned'

export interface TrainOptions {
  readonly steps: number
  readonly signal: AbortSignal
  /** After each step, with the score of its batch from before the step. */
  readonly onStep: (step: number, batch: Score) => void
}

/** Digits that are scored at a time: the page can do something else in between. */
const scoredTogether = 50

export class DigitModel {
  readonly #data: Data
  readonly #model: LayersModel
  readonly #adapters: Adapters
  #adapter = ''
  #made = 0

  /** Starts with an adapter that changes nothing yet. */
  constructor(data: Data) {
    this.#data = data
    this.#model = visionTransformer(data.checkpoint.config)
    loadWeights(this.#model, data.checkpoint)
    this.#adapters = attach(this.#model)
    this.#start()
  }

  /** Numbers that are trained. */
  get parameters(): number {
    return this.#adapters.trainableVariables.reduce((count, { size }) => count + size, 0)
  }

  /** Trains a new adapter from the start; ends early where the signal says so, and keeps what was learned. */
  async train({ steps, signal, onStep }: TrainOptions): Promise<void> {
    this.#start()
    const { adaptation: digits } = this.#data
    await fineTune(this.#model, this.#adapters.trainableVariables, {
      digits,
      epochs: Math.ceil(steps / Math.ceil(digits.count / training.batchSize)),
      batchSize: training.batchSize,
      maxSteps: steps,
      learningRate: fourierSettings.learningRate,
      seed: 1,
      signal,
      onStep: (step, _, batch) => onStep(step, batch),
    })
  }

  /** Logits `[count, 10]` of the turned test digits. */
  async testLogits(who: Who): Promise<Float32Array> {
    const { test } = this.#data
    const logits = new Float32Array(test.count * classes)
    for (let start = 0; start < test.count; start += scoredTogether) {
      const length = Math.min(scoredTogether, test.count - start)
      const part = pick(
        test,
        Array.from({ length }, (_, i) => start + i),
      )
      logits.set(await this.logits(part, who), start * classes)
      await new Promise((resolve) => setTimeout(resolve))
    }
    return logits
  }

  /** Logits `[count, 10]`. May be asked while the adapter is trained: the switch to the frozen model and back is one piece. */
  async logits(digits: DigitSet, who: Who): Promise<Float32Array> {
    const images = toImages(digits)
    if (who === 'frozen') this.#adapters.disableAdapters()
    const output = this.#model.apply(images) as tf.Tensor
    this.#adapters.enableAdapters()
    const values = await output.data<'float32'>()
    images.dispose()
    output.dispose()
    return values
  }

  /** Takes an adapter from files in place of the present one, which stays where they cannot be used. */
  async load(source: AdapterSource | Adapter): Promise<void> {
    const name = this.#newName()
    await this.#adapters.loadAdapter(source, { name })
    this.#use(name)
  }

  /** The adapter as it is now. */
  adapter(): Promise<Adapter> {
    return this.#adapters.getAdapter(this.#adapter)
  }

  /** Gives all memory back. */
  dispose(): void {
    this.#adapters.detach()
    this.#model.dispose()
    disposeTables()
  }

  #start(): void {
    const { nFrequency, scaling } = fourierSettings
    const name = this.#newName()
    this.#adapters.addAdapter(name, {
      targetModules,
      nFrequency,
      scaling,
      randomLocSeed: 1,
      initWeights: true,
    })
    this.#use(name)
  }

  #use(name: string): void {
    this.#adapters.setAdapter(name)
    if (this.#adapter) this.#adapters.deleteAdapter(this.#adapter)
    this.#adapter = name
  }

  #newName(): string {
    return `adapter ${++this.#made}`
  }
}
