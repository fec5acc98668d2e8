/** The digits transformer with one FourierFT adapter on the current backend. The page trains, runs and saves it. */
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

/** The model without the adapter, or with it. */
export type ModelName = 'frozen' | 'tuned'

export interface TrainOptions {
  readonly steps: number
  readonly signal: AbortSignal
  /** Called after each step with the score of its batch from before the step. */
  readonly onStep: (step: number, batch: Score) => void
}

/** Test digits in a batch. The page handles events between batches. */
const testBatchSize = 50

export class DigitModel {
  readonly #data: Data
  readonly #model: LayersModel
  readonly #adapters: Adapters
  #adapterName = ''
  #adapterCount = 0

  /** The initial adapter does not change the model. */
  constructor(data: Data) {
    this.#data = data
    this.#model = visionTransformer(data.checkpoint.config)
    loadWeights(this.#model, data.checkpoint)
    this.#adapters = attach(this.#model)
    this.#start()
  }

  /** Number of trained parameters. */
  get parameters(): number {
    return this.#adapters.trainableVariables.reduce((count, { size }) => count + size, 0)
  }

  /** Trains a new adapter. After an abort signal it ends early and keeps the result so far. */
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

  /** Computes logits `[count, 10]` of the rotated test digits. */
  async testLogits(model: ModelName): Promise<Float32Array> {
    const { test } = this.#data
    const logits = new Float32Array(test.count * classes)
    for (let start = 0; start < test.count; start += testBatchSize) {
      const length = Math.min(testBatchSize, test.count - start)
      const part = pick(
        test,
        Array.from({ length }, (_, i) => start + i),
      )
      logits.set(await this.logits(part, model), start * classes)
      await new Promise((resolve) => setTimeout(resolve))
    }
    return logits
  }

  /** Computes logits `[count, 10]`, also during training, because the switch to the frozen model and back is synchronous. */
  async logits(digits: DigitSet, model: ModelName): Promise<Float32Array> {
    const images = toImages(digits)
    if (model === 'frozen') this.#adapters.disableAdapters()
    const output = this.#model.apply(images) as tf.Tensor
    this.#adapters.enableAdapters()
    const values = await output.data<'float32'>()
    images.dispose()
    output.dispose()
    return values
  }

  /** Replaces the current adapter with one from files. An adapter that does not load changes nothing. */
  async load(source: AdapterSource | Adapter): Promise<void> {
    const name = this.#newName()
    await this.#adapters.loadAdapter(source, { name })
    this.#use(name)
  }

  /** The current state of the adapter. */
  adapter(): Promise<Adapter> {
    return this.#adapters.getAdapter(this.#adapterName)
  }

  /** Frees all memory. */
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
    if (this.#adapterName) this.#adapters.deleteAdapter(this.#adapterName)
    this.#adapterName = name
  }

  #newName(): string {
    return `adapter ${++this.#adapterCount}`
  }
}
