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
import type { SessionAdapter } from '../session-adapter.js'
import { BlockMeter } from './block-meter.js'
import {
  checkBatch,
  checkLoss,
  checkNames,
  checkValues,
  invalid,
  isPositive,
  isRate,
} from './check-options.js'
import type { TrainerState } from './checkpoint.js'
import type { Dataset } from './dataset.js'
import { measure, numberOf } from './evaluate.js'
import { type FitOptions, type FitReport, fit } from './fit.js'
import { FittingTraining, TRAINER_MEMORY, type TrainerMemory } from './fitting-training.js'
import { afterStep, FIRST_LOSS_SCALE, halved, isLossScale, type LossScale } from './loss-scale.js'
import { checkMetric, type EvaluateOptions, type Evaluation } from './metric.js'
import { Parameters } from './parameters.js'
import type { Trainable, TrainableSession } from './trainable.js'
import type { TrainingSession } from './training-session.js'

export interface TrainerOptions {
  /** The name of the adapter. Default: the active one. */
  readonly adapter?: string
  readonly loss: Loss
  /** The loss of evaluations, if it differs: for example, without label smoothing. */
  readonly evaluationLoss?: Loss
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
  /**
   * The longest time in which the caller's thread could not handle other events, in milliseconds. onnxruntime-web on WebAssembly computes a whole
   * batch in the caller's thread, except with `env.wasm.proxy`. onnxruntime-node, the proxy and WebGPU compute elsewhere: then only the start of
   * a run and what follows it count.
   */
  readonly longestBlock: number
}

const OPTIONS = [
  'adapter',
  'loss',
  'evaluationLoss',
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
  readonly #evaluationLoss: Loss
  readonly #session: TrainableSession
  readonly #training: FittingTraining
  /** The session of evaluations, which has no gradients. It is opened for the first one. */
  #evaluation: Promise<TrainingSession> | undefined
  readonly #parameters: Parameters
  #coefficientOptimizer: AdamW
  #weightOptimizer: AdamW
  readonly #maxGradientNorm: number | undefined
  #steps = 0
  /** undefined if no gradient is computed in float16. */
  #lossScale: LossScale | undefined
  /** The loss of the last step. */
  #lastLoss: number | undefined

  private constructor(init: TrainerInit) {
    const { session, training, adapter, name, options } = init
    const { weightDecay = 0.01, maxGradientNorm } = options
    this.#session = session
    this.#training = training
    this.#lossScale = training.current.graph.lossScale === undefined ? undefined : FIRST_LOSS_SCALE
    this.#parameters = new Parameters(adapter, training.current)
    this.#name = name
    this.#evaluationLoss = options.evaluationLoss ?? options.loss
    const scaling = scalingOf(adapter)
    this.learningRate = options.learningRate ?? 7.5 / scaling
    this.headLearningRate = options.headLearningRate ?? 1e-3
    this.#maxGradientNorm = maxGradientNorm
    this.#coefficientOptimizer = createAdamW({ learningRate: this.learningRate, weightDecay })
    this.#weightOptimizer = createAdamW({ learningRate: this.headLearningRate, weightDecay })
    if (adapter.layers.size > 0 && this.learningRate * scaling < LOW_RATE)
      console.warn(
        `@fourierft/onnxruntime: learningRate ${this.learningRate} times α ${scaling} is ${(this.learningRate * scaling).toPrecision(2)}; ` +
          `below ${LOW_RATE} the adapter hardly changes. FourierFT needs rates hundreds of times those of LoRA, such as 7.5/α`,
      )
  }

  /** Called by `createTrainer`. */
  static async create(session: TrainableSession, options: TrainerOptions): Promise<Trainer> {
    checkOptions(options)
    const { name, adapter } = session.adapterToTrain(options.adapter)
    const { loss, memory = 'fast', memoryBudget: budget } = options
    const open = (policy: MemoryPolicy) => session.openTraining(adapter, { loss, memory: policy })
    if (options.learningRate === undefined && scalingOf(adapter) === 0)
      throw invalid('learningRate', `a rate: the adapter's scaling is 0, so there is no default`, undefined)
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
    const blocks = new BlockMeter()
    return this.#session.trainAdapter(this.#name, async () => {
      this.#readAdapter()
      const step = this.#steps + 1
      const { mean, means, lossScale } = await this.#differentiate(batches, step, blocks)
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
      this.#lossScale = lossScale && afterStep(lossScale)
      this.#session.replaceAdapter(this.#name, this.#parameters.adapter())
      return { step, loss: mean, gradientNorm, learningRate, longestBlock: blocks.longest() }
    })
  }

  /**
   * The mean loss and its gradients. As long as float16 makes gradients infinite, the batches are computed again with half the loss scale: the order
   * of the steps stays, and a gradient that is infinite without a scale is still an error.
   */
  async #differentiate(batches: readonly TrainingBatch[], step: number, blocks: BlockMeter) {
    for (let lossScale = this.#lossScale; ; ) {
      const { loss, count, gradients } = await this.#sums(batches, blocks, lossScale)
      if (!gradients || !(count > 0)) throw noLabels(step)
      const mean = loss / count
      if (!Number.isFinite(mean)) throw this.#notFinite(`the loss of step ${step} is ${mean}`, mean)
      const divisor = count * (lossScale?.scale ?? 1)
      const means = gradients.map((gradient) => gradient.map((value) => value / divisor))
      const wrong = means.findIndex((gradient) => !gradient.every(Number.isFinite))
      if (wrong < 0) return { mean, means, lossScale }
      lossScale = lossScale && halved(lossScale)
      if (lossScale) continue
      const { input } = this.#parameters.all[wrong]
      const value = Number(means[wrong].find((one) => !Number.isFinite(one)))
      throw this.#notFinite(
        `the gradient of ${input} in step ${step}, with the loss ${mean}, contains ${value}`,
        value,
      )
    }
  }

  /** Sums over the labels of all batches. */
  async #sums(batches: readonly TrainingBatch[], blocks: BlockMeter, lossScale: LossScale | undefined) {
    let [loss, count] = [0, 0]
    let gradients: Float32Array[] | undefined
    for (const batch of batches) {
      const training = await this.#training.sessionFor(batch.feeds ?? {})
      const { graph } = training
      const fetches = [graph.loss, graph.count, ...graph.gradients.values()]
      // On the main thread of a browser a run blocks. Between two of them the page can answer.
      await blocks.pause()
      const results = await this.#run(training, batch, { fetches, blocks, lossScale })
      loss += numberOf(results, graph.loss)
      count += numberOf(results, graph.count)
      const parts = this.#parameters.gradients(results)
      gradients = gradients ? gradients.map((sum, i) => added(sum, parts[i])) : parts
    }
    return { loss, count, gradients }
  }

  /**
   * The mean loss of all batches, and what the metrics measure, without a step. The first evaluation opens another session, without gradients.
   *
   * @throws {FourierFTError} the errors of `step`, and those of the metrics
   */
  async evaluate(data: Dataset, options: EvaluateOptions = {}): Promise<Evaluation> {
    this.#checkOpen()
    checkNames('evaluate', options, ['metrics'] satisfies (keyof EvaluateOptions)[])
    const { metrics } = options
    checkMetric(metrics)
    this.#readAdapter()
    const training = await this.#openEvaluation()
    return measure(training, data, {
      metrics,
      run: (batch, fetches, blocks) => this.#run(training, batch, { fetches, blocks }),
    })
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
  saveState(): Pick<TrainerState, 'step' | 'optimizers' | 'lossScale' | 'values' | 'fingerprint'> {
    this.#readAdapter()
    return {
      step: this.#steps,
      optimizers: [this.#coefficientOptimizer.toState(), this.#weightOptimizer.toState()],
      lossScale: this.#lossScale,
      values: new Map(this.#parameters.all.map(({ input, values }) => [input, values.slice()])),
      fingerprint: this.#fingerprint(),
    }
  }

  /** @internal @throws {FourierFTError} `INVALID_OPTION` for a state of another adapter; `INVALID_SAFETENSORS` for an incomplete one */
  restoreState(
    { step, optimizers, lossScale, values, fingerprint }: ReturnType<Trainer['saveState']>,
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
    if (this.#lossScale && !(lossScale && isLossScale(lossScale))) throw incomplete()
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
    this.#lossScale = this.#lossScale && lossScale
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
    await (await this.#evaluation?.catch(() => undefined))?.release()
  }

  #openEvaluation(): Promise<TrainingSession> {
    const { adapter } = this.#session.adapterToTrain(this.#name)
    this.#evaluation ??= this.#session
      .openTraining(adapter, { loss: this.#evaluationLoss, memory: this.memory, gradients: false })
      .catch((error) => {
        this.#evaluation = undefined
        throw error
      })
    return this.#evaluation
  }

  async #run(
    training: TrainingSession,
    batch: TrainingBatch,
    { fetches, blocks, lossScale = this.#lossScale }: RunSettings,
  ): Promise<InferenceSession.ReturnType> {
    const { graph, Tensor } = training
    const feeds = this.#parameters.feeds()
    if (graph.lossScale !== undefined && lossScale !== undefined)
      feeds[graph.lossScale] = new Tensor('float32', Float32Array.of(lossScale.scale), [])
    return blocks.during(() => training.run(batch, feeds, fetches))
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

interface RunSettings {
  readonly fetches: readonly string[]
  readonly blocks: BlockMeter
  /** Default: that of the next step. */
  readonly lossScale?: LossScale | undefined
}

interface TrainerInit {
  readonly session: TrainableSession
  readonly training: FittingTraining
  readonly adapter: SessionAdapter
  readonly name: string
  readonly options: TrainerOptions
}

/**
 * Creates a trainer for one adapter of a model. It opens a second session, whose graph also computes the loss and the gradients.
 *
 * It trains the adapter as `savePretrained` writes it: `setScale` and the active adapters of the model do not affect it. Releasing the session
 * (`release`, `detach`, `mergeAndUnload`, `dispose`) releases the trainer, too.
 *
 * @param model a session of `createSession`, or what `attach` of `@fourierft/transformers` returns
 * @throws {FourierFTError} `ADAPTER_NOT_FOUND`; `INVALID_OPTION` for unknown and wrong options, if the model has no such output or the adapter does not affect the loss;
 *   `UNSUPPORTED` for an operator without a gradient rule, and for an adapter of several sessions that are no encoder and decoder
 */
export async function createTrainer(model: Trainable, options: TrainerOptions): Promise<Trainer> {
  return Trainer.create(model.trainable, options)
}

/** |α|; that of PEFT's default for an adapter without coefficients. */
function scalingOf({ layers }: SessionAdapter): number {
  const [layer] = layers.values()
  return Math.abs(layer?.scaling ?? 150)
}

function added(sum: Float32Array, part: Float32Array): Float32Array {
  for (let i = 0; i < sum.length; i++) sum[i] = sum[i] + part[i]
  return sum
}

function noLabels(step: number): FourierFTError {
  return new FourierFTError('INVALID_OPTION', `labels: the batch of step ${step} has no labels that count`, {
    option: 'labels',
    advice: 'leave such batches out',
  })
}

function lengthsOf(parameters: Parameters['all']): string {
  return parameters.map(({ values }) => values.length).join()
}

function checkOptions(options: TrainerOptions): void {
  checkNames('createTrainer', options, OPTIONS)
  const { adapter, loss, evaluationLoss, learningRate, headLearningRate, weightDecay, maxGradientNorm } =
    options
  checkValues({ adapter }, 'the name of an adapter', (value) => typeof value === 'string')
  checkLoss(loss)
  if (evaluationLoss !== undefined) checkLoss(evaluationLoss, 'evaluationLoss')
  checkValues({ learningRate, headLearningRate, weightDecay }, 'a finite number of at least 0', isRate)
  const { memory, memoryBudget } = options
  checkValues({ memory }, TRAINER_MEMORY.join(', '), (value) =>
    TRAINER_MEMORY.includes(value as TrainerMemory),
  )
  checkValues({ maxGradientNorm, memoryBudget }, 'a number above 0', isPositive)
}
