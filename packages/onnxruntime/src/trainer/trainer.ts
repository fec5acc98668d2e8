/** `Trainer`: trains one adapter of a session. Calls of the session see the adapter as it is after the last step. */
import {
  type AdamW,
  clipGradientNorm,
  createAdamW,
  FourierFTError,
  invalidState,
  restoreAdamW,
} from '@fourierft/core'
import type { Loss, MemoryPolicy } from '@fourierft/onnx'
import type { InferenceSession, Tensor } from 'onnxruntime-common'
import { platform } from '#platform'
import type { AdaptedSession } from '../adapted-session.js'
import type { SessionAdapter } from '../session-adapter.js'
import { checkNames, checkValues, invalid, isRate } from './check-options.js'
import type { TrainerState } from './checkpoint.js'
import type { Dataset } from './dataset.js'
import { type FitOptions, type FitReport, fit } from './fit.js'
import { FittingTraining, TRAINER_MEMORY, type TrainerMemory } from './fitting-training.js'
import { Parameters } from './parameters.js'
import type { TrainingPlan, TrainingSession } from './training-session.js'

export interface TrainerOptions {
  /** The name of the adapter. Default: the active one. */
  readonly adapter?: string
  readonly loss: Loss
  /** The rate of the coefficients. Default: 7.5/α, hundreds of times LoRA's: a coefficient moves ΔW by only α/(d1·d2) of itself. */
  readonly learningRate?: number
  /** The rate of weights and biases that the adapter replaces (`modulesToSave`). Default: 1e-3. */
  readonly headLearningRate?: number
  /** AdamW's decay of coefficients and weights. Default: 0.01, as in PyTorch. */
  readonly weightDecay?: number
  /** The largest norm of all gradients together. Default: no limit. */
  readonly maxGradientNorm?: number
  /**
   * What the backward pass reads again is kept (`fast`, the default), or mostly computed again, with less memory (`lean`). `auto` is `fast` until a
   * step does not fit into `memoryBudget`, and `lean` from then on.
   */
  readonly memory?: TrainerMemory
  /**
   * The bytes that the values of a step may take, without weights. `auto` keeps to it, and larger steps are rejected before they start. Default:
   * for `auto` the free memory, for rejections all memory of the machine; in browsers there is no limit.
   */
  readonly memoryBudget?: number
}

/** One batch, or one part of it: what the model is fed, and the labels of the loss. */
export interface TrainingBatch {
  /** The inputs of the model, as for `session.run`. */
  readonly feeds: InferenceSession.FeedsType
  /** The labels: `int64` classes for `crossEntropy`, `float32` numbers for the others; their shape is in the documentation of the loss. */
  readonly labels?: Tensor | undefined
}

export interface StepReport {
  /** The number of this step, from 1. */
  readonly step: number
  /** The mean loss of the batch, before the step. */
  readonly loss: number
  /** The Euclidean norm of all gradients, before clipping. */
  readonly gradientNorm: number
  /** The rate of the coefficients in this step. */
  readonly learningRate: number
}

const OPTIONS = [
  'adapter',
  'loss',
  'learningRate',
  'headLearningRate',
  'weightDecay',
  'maxGradientNorm',
  'memory',
  'memoryBudget',
] as const satisfies (keyof TrainerOptions)[]

/** A product of rate and α below this does not move ΔW. @see Gao et al., tables 9 to 12: 4 to 15 */
const LOW_RATE = 0.5

export class Trainer {
  readonly learningRate: number
  readonly headLearningRate: number
  readonly #name: string
  readonly #session: TrainableSession
  readonly #training: FittingTraining
  readonly #parameters: Parameters
  #coefficientOptimizer: AdamW
  #weightOptimizer: AdamW
  readonly #maxGradientNorm: number | undefined
  #steps = 0
  /** The loss of the last step. */
  #lastLoss: number | undefined

  private constructor(init: TrainerInit) {
    const { session, training, adapter, name, options } = init
    const { weightDecay = 0.01, maxGradientNorm } = options
    this.#session = session
    this.#training = training
    this.#parameters = new Parameters(adapter, training.current)
    this.#name = name
    const [layer] = adapter.layers.values()
    const scaling = Math.abs(layer?.scaling ?? 150)
    this.learningRate = options.learningRate ?? 7.5 / scaling
    this.headLearningRate = options.headLearningRate ?? 1e-3
    this.#maxGradientNorm = maxGradientNorm
    this.#coefficientOptimizer = createAdamW({ learningRate: this.learningRate, weightDecay })
    this.#weightOptimizer = createAdamW({ learningRate: this.headLearningRate, weightDecay })
    if (layer && this.learningRate * scaling < LOW_RATE)
      console.warn(
        `@fourierft/onnxruntime: learningRate ${this.learningRate} times α ${scaling} is ${(this.learningRate * scaling).toPrecision(2)}; ` +
          `below ${LOW_RATE} the adapter hardly changes. FourierFT needs rates hundreds of times those of LoRA; the default is 7.5/α`,
      )
  }

  /** Called by `createTrainer`. */
  static async create(session: TrainableSession, options: TrainerOptions): Promise<Trainer> {
    checkOptions(options)
    const { name, adapter } = session.adapterToTrain(options.adapter)
    const { loss, memory = 'fast', memoryBudget: budget } = options
    const open = (policy: MemoryPolicy) => session.openTraining(adapter, { loss, memory: policy })
    const training = await FittingTraining.open({ memory, budget, open })
    return new Trainer({ session, training, adapter, name, options })
  }

  /** What the backward pass does with the values that it reads again: with the option `auto`, this can change from `fast` to `lean`. */
  get memory(): MemoryPolicy {
    return this.#training.policy
  }

  /** The number of steps so far. */
  get steps(): number {
    return this.#steps
  }

  /**
   * One step of AdamW, which starts from the adapter as it is in the session, with the gradients of a batch, or of several that count as one (gradient accumulation).
   *
   * @param factor multiplies both learning rates, for schedules
   * @throws {FourierFTError} `NOT_FINITE` for a loss or a gradient that is NaN or infinite; `INVALID_OPTION` and `SHAPE_MISMATCH` for feeds
   *   and labels that do not fit, for a batch without labels that count, and for a batch that needs too much memory; `INVALID_STATE` after `release`, while the model is merged or
   *   the adapters are disabled, and if the adapter is being trained elsewhere or was replaced by another one; `ADAPTER_NOT_FOUND` if it was
   *   deleted. An error changes nothing.
   */
  async step(batch: TrainingBatch | readonly TrainingBatch[], factor = 1): Promise<StepReport> {
    this.#checkOpen()
    checkValues({ factor }, 'a finite number of at least 0', isRate)
    const batches: readonly TrainingBatch[] = Array.isArray(batch) ? batch : [batch as TrainingBatch]
    for (const one of batches) checkBatch(one)
    return this.#session.trainAdapter(this.#name, async () => {
      this.#readAdapter()
      let [loss, count] = [0, 0]
      let gradients: Float32Array[] | undefined
      for (const one of batches) {
        const results = await this.#run(one, true)
        loss += numberOf(results, this.#training.current.graph.loss)
        count += numberOf(results, this.#training.current.graph.count)
        const parts = this.#parameters.gradients(results)
        gradients = gradients ? gradients.map((sum, i) => added(sum, parts[i])) : parts
      }
      const step = this.#steps + 1
      if (!gradients || !(count > 0)) throw noLabels(step)
      const mean = loss / count
      if (!Number.isFinite(mean)) throw this.#notFinite(`the loss of step ${step} is ${mean}`, mean)
      const means = gradients.map((gradient) => gradient.map((value) => value / count))
      for (const [i, gradient] of means.entries()) {
        const wrong = gradient.find((value) => !Number.isFinite(value))
        if (wrong === undefined) continue
        const { input } = this.#parameters.all[i]
        throw this.#notFinite(
          `the gradient of ${input} in step ${step}, with the loss ${mean}, contains ${wrong}`,
          wrong,
        )
      }
      const gradientNorm = clipGradientNorm(means, this.#maxGradientNorm ?? Number.POSITIVE_INFINITY)
      const { coefficients, weights } = this.#parameters
      const learningRate = this.learningRate * factor
      const valuesOf = (all: typeof coefficients) => all.map(({ values }) => values)
      if (coefficients.length > 0)
        this.#coefficientOptimizer.step(
          valuesOf(coefficients),
          means.slice(0, coefficients.length),
          learningRate,
        )
      if (weights.length > 0)
        this.#weightOptimizer.step(
          valuesOf(weights),
          means.slice(coefficients.length),
          this.headLearningRate * factor,
        )
      this.#steps = step
      this.#lastLoss = mean
      this.#session.replaceAdapter(this.#name, this.#parameters.adapter())
      return { step, loss: mean, gradientNorm, learningRate }
    })
  }

  /**
   * The mean loss of all batches, without a step.
   *
   * @throws {FourierFTError} the errors of `step`
   */
  async evaluate(batches: Iterable<TrainingBatch> | AsyncIterable<TrainingBatch>): Promise<number> {
    this.#checkOpen()
    this.#readAdapter()
    let [loss, count] = [0, 0]
    for await (const batch of batches) {
      checkBatch(batch)
      const results = await this.#run(batch, false)
      loss += numberOf(results, this.#training.current.graph.loss)
      count += numberOf(results, this.#training.current.graph.count)
    }
    if (!(count > 0)) throw noLabels(undefined)
    if (!Number.isFinite(loss)) throw this.#notFinite(`the loss of the evaluation is ${loss}`, loss)
    return loss / count
  }

  /**
   * Trains for some epochs, with linear decay of the rates after a warm-up.
   *
   * @param data batches in an array, which are shuffled in each epoch, or a function that opens them again for each epoch
   * @throws {FourierFTError} the errors of `step` and `evaluate`; `INVALID_OPTION`; an error leaves the adapter as the last step has made it, and
   *   the last checkpoint
   */
  async fit(data: Dataset, options: FitOptions = {}): Promise<FitReport> {
    this.#checkOpen()
    return fit(this, data, options)
  }

  /** @internal The trained numbers and the optimizers, between two steps. */
  saveState(): Pick<TrainerState, 'step' | 'optimizers' | 'values' | 'fingerprint'> {
    this.#readAdapter()
    return {
      step: this.#steps,
      optimizers: [this.#coefficientOptimizer.toState(), this.#weightOptimizer.toState()],
      values: new Map(this.#parameters.all.map(({ input, values }) => [input, values.slice()])),
      fingerprint: this.#fingerprint(),
    }
  }

  /** @internal @throws {FourierFTError} `INVALID_OPTION` for a state of another adapter; `INVALID_SAFETENSORS` for an incomplete one */
  restoreState(
    { step, optimizers, values, fingerprint }: ReturnType<Trainer['saveState']>,
    file: string,
  ): void {
    if (fingerprint !== this.#fingerprint())
      throw new FourierFTError(
        'INVALID_OPTION',
        `${file}: this checkpoint belongs to another model or adapter`,
        {
          file,
          option: 'checkpoint',
          advice: 'give another path, or resume with the model and the configuration of the first run',
        },
      )
    const incomplete = (cause?: unknown) =>
      new FourierFTError('INVALID_SAFETENSORS', `${file}: this checkpoint is incomplete`, { file, cause })
    const { coefficients, weights, all } = this.#parameters
    if (all.some((parameter) => values.get(parameter.input)?.length !== parameter.values.length))
      throw incomplete()
    const [coefficientOptimizer, weightOptimizer] = [coefficients, weights].map((parameters, i) => {
      const state = optimizers[i]
      const lengths = state?.vectors.map(({ first }) => first.length) ?? []
      if (state === undefined || (state.steps > 0 && lengths.join() !== lengthsOf(parameters)))
        throw incomplete()
      try {
        return restoreAdamW(state)
      } catch (error) {
        throw incomplete(error)
      }
    }) as [AdamW, AdamW]
    this.setValues(values)
    this.#coefficientOptimizer = coefficientOptimizer
    this.#weightOptimizer = weightOptimizer
    this.#steps = step
  }

  /** @internal Sets the trained numbers. */
  setValues(values: ReadonlyMap<string, Float32Array>): void {
    for (const parameter of this.#parameters.all) {
      const stored = values.get(parameter.input)
      if (stored?.length === parameter.values.length) parameter.values.set(stored)
    }
    this.#session.replaceAdapter(this.#name, this.#parameters.adapter())
  }

  /** Frees the training session after its current runs. The adapter stays in the session as it is. */
  async release(): Promise<void> {
    await this.#training.current.release()
  }

  async #run(batch: TrainingBatch, withGradients: boolean): Promise<InferenceSession.ReturnType> {
    const training = await this.#training.sessionFor(batch.feeds ?? {})
    const { graph } = training
    const fetches = [graph.loss, graph.count, ...(withGradients ? graph.gradients.values() : [])]
    // On the main thread of a browser a run blocks. Between two of them the page can answer.
    await platform.nextTask()
    return training.run(batch, this.#parameters.feeds(), {
      fetches,
      modelInputs: this.#session.inputNames,
    })
  }

  /** Takes over the adapter of the session: another trainer may have changed it. */
  #readAdapter(): void {
    if (!this.#parameters.read(this.#session.adapterToTrain(this.#name).adapter))
      throw invalidState(
        `adapter '${this.#name}' was replaced by another one of this name`,
        'create another trainer',
      )
  }

  #fingerprint(): string {
    return `model ${this.#training.current.modelDigest}; ${this.#parameters.fingerprint()}`
  }

  #checkOpen(): void {
    if (this.#training.current.isReleased)
      throw invalidState('the trainer was released', 'create another one')
  }

  #notFinite(problem: string, received: number): FourierFTError {
    const last = this.#lastLoss === undefined ? '' : ` (the loss of the step before was ${this.#lastLoss})`
    return new FourierFTError('NOT_FINITE', `${problem}${last}; the adapter is as before`, {
      received,
      advice: 'lower the learning rate, or set maxGradientNorm',
    })
  }
}

interface TrainerInit {
  readonly session: TrainableSession
  readonly training: FittingTraining
  readonly adapter: SessionAdapter
  readonly name: string
  readonly options: TrainerOptions
}

/** What a trainer needs of a session. */
export interface TrainableSession {
  /** The inputs of the model. */
  readonly inputNames: readonly string[]
  adapterToTrain(name: string | undefined): { readonly name: string; readonly adapter: SessionAdapter }
  openTraining(adapter: SessionAdapter, plan: TrainingPlan): Promise<TrainingSession>
  trainAdapter<T>(name: string, work: () => Promise<T>): Promise<T>
  replaceAdapter(name: string, adapter: SessionAdapter): void
}

/**
 * Creates a trainer for one adapter of a session. It opens a second session, whose graph also computes the loss and the gradients.
 *
 * It trains the adapter as `savePretrained` writes it: `setScale` and the active adapters of the session do not affect it. `session.release()`
 * releases the trainer, too.
 *
 * @throws {FourierFTError} `ADAPTER_NOT_FOUND`; `INVALID_OPTION` for unknown and wrong options, if the model has no such output or the adapter does not affect the loss;
 *   `UNSUPPORTED` for an operator without a gradient rule, and for models of several sessions
 */
export async function createTrainer(session: AdaptedSession, options: TrainerOptions): Promise<Trainer> {
  return Trainer.create(session.trainable, options)
}

function numberOf(results: InferenceSession.ReturnType, name: string): number {
  return Number(results[name]?.data[0])
}

function added(sum: Float32Array, part: Float32Array): Float32Array {
  for (let i = 0; i < sum.length; i++) sum[i] = sum[i] + part[i]
  return sum
}

function noLabels(step: number | undefined): FourierFTError {
  return new FourierFTError(
    'INVALID_OPTION',
    `labels: ${step === undefined ? 'the batches have' : `the batch of step ${step} has`} no labels that count`,
    { option: 'labels', advice: 'leave such batches out' },
  )
}

function lengthsOf(parameters: Parameters['all']): string {
  return parameters.map(({ values }) => values.length).join()
}

function checkBatch(batch: unknown): void {
  if (typeof batch !== 'object' || batch === null || !('feeds' in batch))
    throw invalid('batch', 'an object { feeds, labels }', batch)
}

function checkOptions(options: TrainerOptions): void {
  checkNames('createTrainer', options, OPTIONS)
  const { adapter, loss, learningRate, headLearningRate, weightDecay, maxGradientNorm } = options
  checkValues({ adapter }, 'the name of an adapter', (value) => typeof value === 'string')
  if (typeof loss?.build !== 'function' || typeof loss.output !== 'string')
    throw invalid('loss', 'a loss, such as crossEntropy(output)', loss)
  checkValues({ learningRate, headLearningRate, weightDecay }, 'a finite number of at least 0', isRate)
  const { memory, memoryBudget } = options
  checkValues({ memory }, TRAINER_MEMORY.join(', '), (value) =>
    TRAINER_MEMORY.includes(value as TrainerMemory),
  )
  checkValues({ maxGradientNorm, memoryBudget }, 'a number above 0', (value) => Number(value) > 0)
}
