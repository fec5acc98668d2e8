/** Trains one method on mails, and measures it on mails that it has not seen. */
import { linearSchedule, standardNormal } from '@fourierft/core'
import { crossEntropy, LOGITS, readModel } from '@fourierft/onnx'
import { attach, evaluate, type ModelAdapters, train } from '@fourierft/transformers'
import { fileSize, GraphTrainer, type TrainedInput } from './graph-trainer.js'
import { attachLora } from './lora-graph.js'
import { LABELS, MailBatches } from './mail-batches.js'
import { type MailModel, openMailModel, targetModules } from './mail-model.js'
import type { Mail } from './mails.js'
import { secondsSince } from './processor-time.js'
import { addTrainedHead } from './trained-head.js'

/** A method with its rates. `defaults` is `train` with no option but the seed and the limit of tokens. */
export type MailMethod =
  | {
      readonly kind: 'FourierFT'
      readonly n: number
      readonly learningRate: number
      readonly headLearningRate: number
    }
  | {
      readonly kind: 'LoRA'
      readonly rank: number
      readonly learningRate: number
      readonly headLearningRate: number
    }
  | { readonly kind: 'head only'; readonly headLearningRate: number }
  | { readonly kind: 'defaults' }

export interface MailTraining {
  readonly epochs: number
  readonly batchSize: number
  /** Tokens; longer mails are cut. */
  readonly maxLength: number
}

export interface MailRun {
  readonly accuracy: number
  readonly loss: number
  /** Trained numbers without those of the head. */
  readonly parameters: number
  /** The size of `adapter_model.safetensors`, with the head. */
  readonly bytes: number
  /** Processor time of the training, with the preparation of the data. */
  readonly seconds: number
}

export interface MailParts {
  readonly training: readonly Mail[]
  readonly scored: readonly Mail[]
}

/** α/r of LoRA. */
const LORA_SCALE = 2
const NAME = 'mails'

export class MailComparison {
  readonly #model: MailModel
  readonly #adapters: ModelAdapters
  readonly #training: MailTraining

  private constructor(model: MailModel, adapters: ModelAdapters, training: MailTraining) {
    this.#model = model
    this.#adapters = adapters
    this.#training = training
  }

  static async open(training: MailTraining): Promise<MailComparison> {
    const model = await openMailModel()
    return new MailComparison(model, await attach(model.classify), training)
  }

  run(method: MailMethod, parts: MailParts, seed: number): Promise<MailRun> {
    if (method.kind === 'FourierFT' || method.kind === 'defaults') return this.#fourier(method, parts, seed)
    return this.#graph(method, parts, seed)
  }

  /** As users do it. */
  async #fourier(
    method: Extract<MailMethod, { readonly kind: 'FourierFT' | 'defaults' }>,
    { training, scored }: MailParts,
    seed: number,
  ): Promise<MailRun> {
    const adapters = this.#adapters
    const { maxLength, batchSize, epochs } = this.#training
    const start = process.cpuUsage()
    if (method.kind === 'defaults') {
      await adapters.addAdapter(NAME)
      await train(adapters, training, { adapter: NAME, maxLength, seed })
    } else {
      const { n, learningRate, headLearningRate } = method
      await adapters.addAdapter(NAME, { targetModules, nFrequency: n, randomLocSeed: seed })
      const options = { epochs, batchSize, maxLength, learningRate, headLearningRate, seed }
      await train(adapters, training, { adapter: NAME, ...options })
    }
    const seconds = secondsSince(start)
    const { loss, metrics } = await evaluate(adapters, scored, { adapter: NAME, maxLength })
    const adapter = await adapters.getAdapter(NAME)
    const sizes = Array.from(adapter.modules.values(), ({ coefficients }) => coefficients.length)
    await adapters.deleteAdapter(NAME)
    return {
      accuracy: metrics.accuracy,
      loss,
      parameters: sizes.reduce((sum, size) => sum + size, 0),
      bytes: adapter.toBytes().model.length,
      seconds,
    }
  }

  /** LoRA, and the head alone. */
  async #graph(
    method: Extract<MailMethod, { readonly kind: 'LoRA' | 'head only' }>,
    { training, scored }: MailParts,
    seed: number,
  ): Promise<MailRun> {
    const { maxLength, batchSize, epochs } = this.#training
    const { tokenizer } = this.#model.classify
    const start = process.cpuUsage()
    const model = readModel(this.#model.bytes)
    const head = addTrainedHead(model, {
      config: this.#model.classify.model.config as object,
      adapter: await this.#newHead(seed),
      learningRate: method.headLearningRate,
    })
    const lora: TrainedInput[] = []
    if (method.kind === 'LoRA') {
      const { rank, learningRate } = method
      const normal = standardNormal(seed)
      for (const layer of attachLora(model, { targetModules, rank, alpha: LORA_SCALE * rank })) {
        const { down, up, inFeatures, outFeatures } = layer
        // The variance of PEFT's start, which is uniform in ±1/√d2; `up` is zero.
        const values = Float32Array.from(
          { length: inFeatures * rank },
          () => normal() / Math.sqrt(3 * inFeatures),
        )
        lora.push({ name: down, dims: [inFeatures, rank], values, learningRate })
        lora.push({
          name: up,
          dims: [rank, outFeatures],
          values: new Float32Array(rank * outFeatures),
          learningRate,
        })
      }
    }
    const inputs = [...lora, ...head]
    const trainer = await GraphTrainer.open(model.toBytes(), { loss: crossEntropy(LOGITS), inputs })
    try {
      const batches = new MailBatches(training, { tokenizer, maxLength, batchSize })
      const totalSteps = epochs * batches.length
      const schedule = linearSchedule({ totalSteps, warmupSteps: Math.round(0.06 * totalSteps) })
      let step = 0
      for (let epoch = 0; epoch < epochs; epoch++)
        for (const batch of batches.read(seed + epoch)) await trainer.step(batch, schedule(step++))
      const seconds = secondsSince(start)
      const held = new MailBatches(scored, { tokenizer, maxLength, batchSize })
      return {
        ...(await trainer.evaluate(held.read())),
        parameters: lora.reduce((sum, { values }) => sum + values.length, 0),
        bytes: fileSize(inputs),
        seconds,
      }
    } finally {
      await trainer.release()
    }
  }

  /** Makes the head from which `train` starts with the same seed. */
  async #newHead(seed: number) {
    const adapters = this.#adapters
    await adapters.addAdapter(NAME, { targetModules, nFrequency: 1 })
    await adapters.giveHead(NAME, { names: LABELS }, { seed, taskType: 'SEQ_CLS' })
    const adapter = await adapters.getAdapter(NAME)
    await adapters.deleteAdapter(NAME)
    return adapter
  }
}
