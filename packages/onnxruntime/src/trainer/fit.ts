/** `fit`: epochs, schedules, evaluation, early stopping and checkpoints around the steps of a trainer. */
import { cosineSchedule, FourierFTError, linearSchedule, type Schedule } from '@fourierft/core'
import { platform } from '#platform'
import { BlockMeter } from './block-meter.js'
import { checkNames, checkValues, invalid, isCount } from './check-options.js'
import { decodeCheckpoint, encodeCheckpoint, type TrainerState } from './checkpoint.js'
import { batchCount, batchesOf, type Dataset, descriptionOf, type Order } from './dataset.js'
import type { Evaluation, Metric } from './metric.js'
import type { StepReport, Trainer, TrainingBatch } from './trainer.js'

export interface FitOptions {
  /** Default: 3. */
  readonly epochs?: number
  /** The number of batches that count as one (gradient accumulation). Default: 1. */
  readonly accumulate?: number
  /** Default: `linear`. `linear` and `cosine` fall to 0 at the end; for data of unknown length they need `totalSteps`. */
  readonly schedule?: 'linear' | 'cosine' | 'constant'
  /** The part of all steps in which the rates rise from 0. Default: 0.06. */
  readonly warmup?: number
  /** The number of all steps. Default: as the length of the data gives it. */
  readonly totalSteps?: number
  /** Whether batches in an array are shuffled in each epoch. Default: true. */
  readonly shuffle?: boolean
  /** Of the shuffling. Default: 0. */
  readonly seed?: number
  /** Data whose loss is measured after each epoch. */
  readonly evaluation?: Dataset
  /** Makes the metric of each evaluation. Its results are in the reports of the epochs. Needs `evaluation`. */
  readonly metrics?: () => Metric
  /** Stops after this many evaluations that are not better than the best one. At the end, the best is restored. Needs `evaluation`. */
  readonly patience?: number
  /** What `patience` judges by: one of the metrics. Default: the loss of the evaluation. */
  readonly best?: BestBy
  /** Stops after the current step. The adapter stays as the last step has made it. */
  readonly signal?: AbortSignal
  readonly callbacks?: FitCallbacks
  readonly checkpoint?: CheckpointOptions
}

export interface BestBy {
  /** The name of a result of `metrics`. */
  readonly metric: string
  readonly better: 'higher' | 'lower'
}

/** Named as in Keras. What they return is awaited. */
export interface FitCallbacks {
  readonly onTrainBegin?: () => unknown
  readonly onEpochBegin?: (epoch: number) => unknown
  /** After each step. */
  readonly onBatchEnd?: (step: number, report: StepReport) => unknown
  readonly onEpochEnd?: (epoch: number, report: EpochReport) => unknown
  readonly onTrainEnd?: (report: FitReport) => unknown
}

export interface CheckpointOptions {
  /** A file (Node). It is replaced atomically, before the first step for the first time. */
  readonly path: string
  /** Steps between two checkpoints. Default: 100. One is also written after each epoch. */
  readonly everySteps?: number
  /** Whether to go on from the file if it exists. Default: false. */
  readonly resume?: boolean
}

const OPTIONS = [
  'epochs',
  'accumulate',
  'schedule',
  'warmup',
  'totalSteps',
  'shuffle',
  'seed',
  'evaluation',
  'metrics',
  'patience',
  'best',
  'signal',
  'callbacks',
  'checkpoint',
] as const satisfies (keyof FitOptions)[]
const CALLBACKS = [
  'onTrainBegin',
  'onEpochBegin',
  'onBatchEnd',
  'onEpochEnd',
  'onTrainEnd',
] as const satisfies (keyof FitCallbacks)[]
const CHECKPOINT_OPTIONS = ['path', 'everySteps', 'resume'] as const satisfies (keyof CheckpointOptions)[]

export interface EpochReport {
  /** From 0. */
  readonly epoch: number
  /** The number of the epoch's last step. */
  readonly step: number
  /** The mean loss of the epoch's batches, each before its step. */
  readonly loss: number
  /** The mean loss of the evaluation data after the epoch. */
  readonly evaluationLoss: number | undefined
  /** The results of the option `metrics` after the epoch. */
  readonly metrics: Readonly<Record<string, number>> | undefined
}

export interface FitReport {
  readonly epochs: readonly EpochReport[]
  /** The steps of this call, in order. */
  readonly steps: readonly StepReport[]
  readonly stopped: 'end' | 'early' | 'aborted'
  /**
   * The longest time in which the caller's thread could not handle other events, in milliseconds: during a step, an evaluation or a checkpoint.
   * Data and callbacks do not count.
   */
  readonly longestBlock: number
}

/** Called by `Trainer.fit`. */
export async function fit(trainer: Trainer, data: Dataset, options: FitOptions): Promise<FitReport> {
  const run = new Fit(trainer, data, checked(options))
  return run.start()
}

type Settings = ReturnType<typeof checked>

function checked(options: FitOptions) {
  const { epochs = 3, accumulate = 1, schedule = 'linear', warmup = 0.06, shuffle = true, seed = 0 } = options
  const { totalSteps, patience, best, evaluation, metrics, signal, callbacks = {}, checkpoint } = options
  const everySteps = checkpoint?.everySteps ?? 100
  checkNames('fit', options, OPTIONS)
  checkNames('callbacks', callbacks, CALLBACKS)
  if (checkpoint !== undefined) checkNames('checkpoint', checkpoint, CHECKPOINT_OPTIONS)
  const counts = { epochs, accumulate, totalSteps, patience, 'checkpoint.everySteps': everySteps }
  checkValues(counts, 'an integer of at least 1', isCount)
  checkValues({ seed }, 'an integer of at least 0', (value) => isCount(Number(value) + 1))
  checkValues({ warmup }, 'a number in [0, 1]', (value) => Number(value) >= 0 && Number(value) <= 1)
  checkValues({ schedule }, "'linear', 'cosine' or 'constant'", (value) =>
    ['linear', 'cosine', 'constant'].includes(String(value)),
  )
  checkValues(
    { shuffle, 'checkpoint.resume': checkpoint?.resume },
    'true or false',
    (value) => typeof value === 'boolean',
  )
  if (checkpoint !== undefined && typeof checkpoint.path !== 'string')
    throw invalid('checkpoint.path', 'the path of a file', checkpoint.path)
  checkValues({ ...callbacks }, 'a function', (value) => typeof value === 'function')
  checkValues({ signal }, 'an AbortSignal', (value) => typeof (value as AbortSignal).aborted === 'boolean')
  checkValues({ metrics }, 'a function that returns a metric', (value) => typeof value === 'function')
  checkValues({ best }, "an object { metric, better: 'higher' or 'lower' }", isBestBy)
  for (const [option, value, needed] of [
    ['patience', patience, { evaluation }],
    ['metrics', metrics, { evaluation }],
    ['best', best, { metrics, patience }],
  ] as const)
    for (const [name, given] of Object.entries(needed))
      if (value !== undefined && given === undefined)
        throw invalid(option, `the option ${name} beside it`, value)
  const order: Order = { shuffle, seed }
  return {
    epochs,
    accumulate,
    schedule,
    warmup,
    order,
    totalSteps,
    patience,
    best,
    evaluation,
    metrics,
    signal,
    callbacks,
    checkpoint,
    everySteps,
  }
}

function isBestBy(value: unknown): boolean {
  const { metric, better } = (value ?? {}) as Partial<BestBy>
  return typeof metric === 'string' && (better === 'higher' || better === 'lower')
}

class Fit {
  readonly #trainer: Trainer
  /** The steps that the trainer had taken before this run. */
  #firstStep: number
  readonly #data: Dataset
  readonly #settings: Settings
  readonly #steps: StepReport[] = []
  readonly #epochs: EpochReport[] = []
  #longestBlock = 0
  #epoch = 0
  #batch = 0
  #epochLoss: [sum: number, count: number] = [0, 0]
  #best: TrainerState['best']
  #bestValues: ReadonlyMap<string, Float32Array> = new Map()

  constructor(trainer: Trainer, data: Dataset, settings: Settings) {
    this.#trainer = trainer
    this.#data = data
    this.#settings = settings
    this.#firstStep = trainer.steps
  }

  async start(): Promise<FitReport> {
    const { epochs, callbacks, evaluation } = this.#settings
    if (evaluation !== undefined && batchCount(evaluation) === 0)
      throw invalid('evaluation', 'at least one batch', 'no batches')
    const schedule = this.#schedule()
    await this.#resume()
    // A path that cannot be written is rejected before the first step.
    await this.#save()
    await callbacks.onTrainBegin?.()
    // The run may have ended right after its last checkpoint.
    let stopped: FitReport['stopped'] = this.#hasStopped() ? 'early' : 'end'
    while (this.#epoch < epochs && stopped === 'end') stopped = await this.#runEpoch(schedule)
    if (stopped !== 'aborted' && this.#bestValues.size > 0) this.#trainer.setValues(this.#bestValues)
    const report = { epochs: this.#epochs, steps: this.#steps, stopped, longestBlock: this.#longestBlock }
    await callbacks.onTrainEnd?.(report)
    return report
  }

  async #runEpoch(schedule: Schedule): Promise<FitReport['stopped']> {
    const { accumulate, order, callbacks, signal, everySteps } = this.#settings
    const epoch = this.#epoch
    if (this.#batch === 0) await callbacks.onEpochBegin?.(epoch)
    let parts: TrainingBatch[] = []
    const step = async () => {
      const report = await this.#trainer.step(parts, schedule(this.#trainer.steps - this.#firstStep))
      this.#steps.push(report)
      this.#longestBlock = Math.max(this.#longestBlock, report.longestBlock)
      this.#batch += parts.length
      this.#epochLoss = [this.#epochLoss[0] + report.loss, this.#epochLoss[1] + 1]
      parts = []
      await callbacks.onBatchEnd?.(report.step, report)
      if (report.step % everySteps === 0) await this.#save()
    }
    for await (const batch of batchesOf(this.#data, { epoch, first: this.#batch, order })) {
      if (signal?.aborted) return this.#aborted()
      parts.push(batch)
      if (parts.length === accumulate) await step()
    }
    if (signal?.aborted) return this.#aborted()
    if (parts.length > 0) await step()
    if (this.#epochLoss[1] === 0) throw invalid('dataset', 'at least one batch', 'no batches')
    return this.#endEpoch()
  }

  async #aborted(): Promise<'aborted'> {
    await this.#save()
    return 'aborted'
  }

  async #endEpoch(): Promise<'end' | 'early'> {
    const { callbacks } = this.#settings
    const epoch = this.#epoch
    const evaluated = await this.#evaluate()
    const report = {
      epoch,
      step: this.#trainer.steps,
      loss: this.#epochLoss[0] / this.#epochLoss[1],
      evaluationLoss: evaluated?.loss,
      metrics: evaluated?.metrics,
    }
    this.#epochs.push(report)
    if (evaluated) this.#judge(evaluated, epoch)
    this.#epoch++
    this.#batch = 0
    this.#epochLoss = [0, 0]
    await this.#save()
    await callbacks.onEpochEnd?.(epoch, report)
    return this.#hasStopped() ? 'early' : 'end'
  }

  /** Compares an evaluation with the best one. */
  #judge({ loss, metrics }: Evaluation, epoch: number): void {
    const { best, patience } = this.#settings
    const value = best === undefined ? loss : metricNamed(best.metric, metrics)
    const sign = best?.better === 'higher' ? -1 : 1
    if (this.#best === undefined || sign * value < sign * this.#best.value) {
      this.#best = { value, epoch, age: 0 }
      if (patience !== undefined) this.#bestValues = this.#trainer.saveState().values
    } else this.#best = { ...this.#best, age: this.#best.age + 1 }
  }

  /** Measures the option `evaluation`. */
  async #evaluate(): Promise<Evaluation | undefined> {
    const { evaluation, metrics } = this.#settings
    if (evaluation === undefined) return undefined
    const evaluated = await this.#trainer.evaluate(evaluation, { metrics: metrics?.() })
    this.#longestBlock = Math.max(this.#longestBlock, evaluated.longestBlock)
    return evaluated
  }

  /** Whether as many evaluations as `patience` were not better than the best. */
  #hasStopped(): boolean {
    const { patience } = this.#settings
    return patience !== undefined && (this.#best?.age ?? 0) >= patience
  }

  /** What the position in the data, and the best evaluation, depend on. */
  #dataText(): string {
    const { accumulate, order, best } = this.#settings
    const count = batchCount(this.#data)
    const shuffled = Array.isArray(this.#data) && order.shuffle ? `, shuffled with seed ${order.seed}` : ''
    const described = descriptionOf(this.#data)
    const from = described === undefined ? '' : ` of ${described}`
    const judged = best ? `, the best by ${best.better} ${best.metric}` : ''
    return `${count ?? 'an unknown number of'} batches${from}${shuffled}, accumulate ${accumulate}${judged}`
  }

  #schedule(): Schedule {
    const { schedule, epochs, accumulate, warmup, totalSteps } = this.#settings
    if (schedule === 'constant') return () => 1
    const batches = batchCount(this.#data)
    const needed = batches === undefined ? undefined : epochs * Math.ceil(batches / accumulate)
    if (totalSteps !== undefined && needed !== undefined && totalSteps < needed)
      throw invalid('totalSteps', `at least ${needed}, the steps of these data`, totalSteps)
    const total = totalSteps ?? needed
    if (total === undefined)
      throw new FourierFTError(
        'INVALID_OPTION',
        `schedule: '${schedule}' needs the number of steps, which these data do not show`,
        { option: 'totalSteps', advice: "give the option totalSteps, or schedule: 'constant'" },
      )
    const make = schedule === 'linear' ? linearSchedule : cosineSchedule
    const totalOrOne = Math.max(1, total)
    return make({ warmupSteps: Math.min(Math.round(warmup * total), totalOrOne - 1), totalSteps: totalOrOne })
  }

  async #save(): Promise<void> {
    const { checkpoint } = this.#settings
    if (checkpoint === undefined) return
    const state = {
      ...this.#trainer.saveState(),
      data: this.#dataText(),
      epoch: this.#epoch,
      batch: this.#batch,
      firstStep: this.#firstStep,
      epochLoss: this.#epochLoss,
      best: this.#best,
      bestValues: this.#bestValues,
    }
    const blocks = new BlockMeter()
    const bytes = encodeCheckpoint(state)
    this.#longestBlock = Math.max(this.#longestBlock, blocks.longest())
    await platform.writeFile(checkpoint.path, bytes)
  }

  async #resume(): Promise<void> {
    const { checkpoint } = this.#settings
    if (!checkpoint?.resume) return
    let bytes: Uint8Array
    try {
      ;({ bytes } = await platform.readFile(checkpoint.path))
    } catch (error) {
      if (FourierFTError.isInstance(error) && error.code === 'FILE_NOT_FOUND') return
      throw error
    }
    const state = decodeCheckpoint(bytes, checkpoint.path)
    const data = this.#dataText()
    if (state.data !== data)
      throw new FourierFTError(
        'INVALID_OPTION',
        `${checkpoint.path}: this checkpoint was written with ${state.data}; received ${data}`,
        {
          file: checkpoint.path,
          option: 'checkpoint',
          expected: state.data,
          received: data,
          advice: 'resume with the data and the options of the first run',
        },
      )
    this.#trainer.restoreState(state, checkpoint.path)
    this.#firstStep = state.firstStep
    this.#epoch = state.epoch
    this.#batch = state.batch
    this.#epochLoss = [...state.epochLoss]
    this.#best = state.best
    this.#bestValues = state.bestValues
  }
}

function metricNamed(name: string, metrics: Evaluation['metrics'] = {}): number {
  const value = Object.hasOwn(metrics, name) ? metrics[name] : undefined
  if (Number.isFinite(value)) return value as number
  const names = Object.keys(metrics)
  throw value === undefined
    ? invalid('best', `one of the metrics ${names.join(', ')}`, name)
    : new FourierFTError('NOT_FINITE', `best: the metric ${name} is ${value}`, {
        option: 'best',
        received: value,
      })
}
