/** `train`: fine-tunes an adapter of a transformers.js pipeline on rows. */
import { type Adapter, FourierFTError, invalidState } from '@fourierft/core'
import {
  type BestBy,
  type CheckpointOptions,
  createTrainer,
  type FitCallbacks,
  type FitReport,
  type Metric,
  type StepReport,
  type Trainer,
} from '@fourierft/onnxruntime'
import { checkOptions } from '../check-options.js'
import { labelsOfConfig } from '../class-labels.js'
import type { ModelAdapters } from '../model-adapters.js'
import { type Batches, createBatches } from './batches.js'
import { checkAdapters, checkCounts, checkOptionNames } from './check-train-options.js'
import type { Labels } from './labels.js'
import {
  contextOf,
  encodeRows,
  type Prepared,
  type PrepareOptions,
  type Rows,
  readTaskRows,
} from './prepare.js'
import type { Data } from './read-rows.js'

export interface TrainOptions extends PrepareOptions {
  /** The name of the adapter. Default: the active one. */
  readonly adapter?: string
  /** Rows that are not trained on: loss and metrics are measured after each epoch. */
  readonly evaluation?: Data
  /** Default: 3. */
  readonly epochs?: number
  /** Rows in a batch. Default: 16. */
  readonly batchSize?: number
  /** The number of batches that count as one. Default: 1. */
  readonly accumulate?: number
  /**
   * The rate of the coefficients, hundreds of times LoRA's. Default: 30/α, which suits trainings of up to some hundred steps. The paper's settings for
   * trainings of many epochs are 4/α to 15/α.
   */
  readonly learningRate?: number
  /** The rate of new heads and other layers in `modulesToSave`. Default: 1e-3. */
  readonly headLearningRate?: number
  /** Default: 0.01. */
  readonly weightDecay?: number
  /** The largest norm of all gradients together. Default: 1. */
  readonly maxGradientNorm?: number
  /** Of cross-entropies, in [0, 1). Evaluations are not smoothed. Default: 0. */
  readonly labelSmoothing?: number
  /** How the rates fall after the warm-up. Default: `linear`. */
  readonly schedule?: 'linear' | 'cosine' | 'constant'
  /** The part of all steps in which the rates rise from 0. Default: 0.06. */
  readonly warmup?: number
  /** Of the order of the rows and the weights of a new head. Default: 0. */
  readonly seed?: number
  /** Stops after this many evaluations that are not better than the best one, and restores the best. Needs `evaluation`. */
  readonly patience?: number
  /** What `patience` judges by: one of the metrics. Default: the loss. */
  readonly best?: BestBy
  /** A file from which a training can be resumed (Node). */
  readonly checkpoint?: CheckpointOptions
  /** Stops after the current step, and keeps what was trained. */
  readonly signal?: AbortSignal
  /** Named as in Keras. */
  readonly callbacks?: FitCallbacks
  /** Is called after each step with events like those of transformers.js for downloads. */
  readonly progress_callback?: (event: TrainingProgress) => void
}

/** transformers.js' event `progress`, where `loaded` and `total` count steps. */
export interface TrainingProgress {
  readonly status: 'progress'
  /** The adapter. */
  readonly name: string
  readonly file: 'training'
  /** Percent. */
  readonly progress: number
  readonly loaded: number
  readonly total: number
  readonly loss: number
}

export interface TrainingReport extends FitReport {
  readonly task: string
  readonly adapter: string
  /** The names of the classes, for tasks that have classes. */
  readonly labels: readonly string[] | undefined
  readonly rows: {
    readonly training: number
    readonly evaluation: number
    /** Rows that were too long. Their ends were not used. */
    readonly cut: number
  }
  readonly maxLength: number
  readonly batchSize: number
  readonly learningRate: number
  readonly headLearningRate: number
  readonly seconds: number
}

const OPTIONS = [
  'adapter',
  'task',
  'format',
  'maxLength',
  'packing',
  'evaluation',
  'epochs',
  'batchSize',
  'accumulate',
  'learningRate',
  'headLearningRate',
  'weightDecay',
  'maxGradientNorm',
  'labelSmoothing',
  'schedule',
  'warmup',
  'seed',
  'patience',
  'best',
  'checkpoint',
  'signal',
  'callbacks',
  'progress_callback',
] as const satisfies (keyof TrainOptions)[]

/** Measured on mails and on a language model, `apps/experiments`. */
const RATE_TIMES_SCALING = 30

/** The adapters that are being trained. */
const running = new WeakMap<ModelAdapters, Set<string>>()

/**
 * Trains an adapter. The pipeline can be used meanwhile; its calls use the adapter as the last step left it.
 *
 * If the rows have other labels than the model, the adapter gets a head for them (`modulesToSave`).
 *
 * @param data rows: an array, an iterable, a function that returns one, or a JSONL or CSV file (a path, a URL, a `File`)
 * @throws {FourierFTError} `INVALID_OPTION` for options, rows and labels, with the position of the row; `UNSUPPORTED` for a task or a model that cannot be
 *   trained; `ADAPTER_NOT_FOUND`; `INVALID_STATE` if the adapter is being trained already; `FILE_NOT_FOUND` and `IO_ERROR` for files; `NOT_FINITE`. The adapter
 *   is then as the last step left it; without a step, it is as before
 */
export async function train(
  adapters: ModelAdapters,
  data: Data,
  options: TrainOptions = {},
): Promise<TrainingReport> {
  checkAdapters(adapters)
  checkTrainOptions(options)
  const { name } = adapters.trainable.adapterToTrain(options.adapter)
  const names = running.get(adapters) ?? new Set()
  running.set(adapters, names)
  if (names.has(name))
    throw invalidState(`adapter '${name}' is being trained`, 'wait for the other training, or abort it')
  names.add(name)
  try {
    return await new Training(adapters, name, options).run(data)
  } finally {
    names.delete(name)
  }
}

class Training {
  readonly #adapters: ModelAdapters
  readonly #name: string
  readonly #options: TrainOptions

  constructor(adapters: ModelAdapters, name: string, options: TrainOptions) {
    this.#adapters = adapters
    this.#name = name
    this.#options = options
  }

  async run(data: Data): Promise<TrainingReport> {
    const start = performance.now()
    const { evaluation, batchSize = 16, seed = 0 } = this.#options
    const training = await readTaskRows(this.#adapters, data, this.#options, 'data')
    const held =
      evaluation === undefined
        ? undefined
        : await readTaskRows(this.#adapters, evaluation, this.#options, 'evaluation')
    const labels = this.#labelsOf(training)
    const context = contextOf(this.#adapters, labels, this.#options)
    const prepared = await encodeRows(context, training, training, 'data', this.#options)
    const preparedHeld = held && (await encodeRows(context, held, training, 'evaluation', this.#options))
    const { trainer, before } = await this.#openTrainer(prepared, training, labels)
    try {
      const batches = createBatches(prepared.examples, { size: batchSize, seed, collate: prepared.collate })
      const report = await this.#fit(trainer, batches, preparedHeld)
      return {
        ...report,
        task: context.pipeline,
        adapter: this.#name,
        labels: labels?.names,
        rows: {
          training: training.rows.length,
          evaluation: held?.rows.length ?? 0,
          cut: [prepared, preparedHeld].flatMap((part) => part?.examples.filter(({ cut }) => cut > 0) ?? [])
            .length,
        },
        maxLength: context.maxLength,
        batchSize,
        learningRate: trainer.learningRate,
        headLearningRate: trainer.headLearningRate,
        seconds: (performance.now() - start) / 1000,
      }
    } finally {
      await trainer.release()
      // The head is random until the first step.
      if (before && trainer.steps === 0) await this.#adapters.exchangeAdapter(this.#name, before)
    }
  }

  #labelsOf({ task, rows }: Rows): Labels | undefined {
    const { labels, isMissing } = this.#adapters.headOf(this.#name)
    return task.labelsOf?.(
      rows,
      isMissing ? { names: [] } : (labels ?? labelsOfConfig(this.#adapters.model.config)),
    )
  }

  /** Gives the adapter a new head if it needs one. If it cannot be trained, it keeps the old one. */
  async #openTrainer(
    { loss, evaluationLoss }: Prepared,
    { task }: Rows,
    labels: Labels | undefined,
  ): Promise<{ readonly trainer: Trainer; readonly before: Adapter | undefined }> {
    const { learningRate, headLearningRate, weightDecay, maxGradientNorm = 1, seed = 0 } = this.#options
    const before = labels?.isNew ? await this.#giveHead(task.taskType, labels, seed) : undefined
    try {
      const trainer = await createTrainer(this.#adapters, {
        adapter: this.#name,
        loss,
        ...(evaluationLoss && { evaluationLoss }),
        maxGradientNorm,
        learningRate: learningRate ?? (await this.#defaultRate()),
        ...(headLearningRate !== undefined && { headLearningRate }),
        ...(weightDecay !== undefined && { weightDecay }),
      })
      return { trainer, before }
    } catch (error) {
      if (before) await this.#adapters.exchangeAdapter(this.#name, before)
      throw error
    }
  }

  async #defaultRate(): Promise<number> {
    const { scaling } = (await this.#adapters.getAdapter(this.#name)).config
    if (scaling !== 0) return RATE_TIMES_SCALING / Math.abs(scaling)
    throw new FourierFTError(
      'INVALID_OPTION',
      "learningRate: the adapter's scaling is 0, so there is no default",
      {
        option: 'learningRate',
      },
    )
  }

  /** @returns the adapter without the new head */
  async #giveHead(taskType: string | null, { names, problemType }: Labels, seed: number): Promise<Adapter> {
    const before = await this.#adapters.getAdapter(this.#name)
    await this.#adapters.giveHead(this.#name, { names, problemType }, { seed, taskType })
    return before
  }

  #fit(trainer: Trainer, batches: Batches, held: Prepared | undefined): Promise<FitReport> {
    const { epochs = 3, accumulate = 1, schedule, warmup, seed, patience, best } = this.#options
    const {
      batchSize = 16,
      signal,
      callbacks = {},
      checkpoint,
      progress_callback: onProgress,
    } = this.#options
    const total = epochs * Math.ceil(batches.length / accumulate)
    const hasMetric = held?.metric() !== undefined
    const onBatchEnd = async (step: number, report: StepReport) => {
      onProgress?.({
        status: 'progress',
        name: this.#name,
        file: 'training',
        progress: (100 * step) / total,
        loaded: step,
        total,
        loss: report.loss,
      })
      await callbacks.onBatchEnd?.(step, report)
    }
    return trainer.fit(batches, {
      epochs,
      accumulate,
      callbacks: { ...callbacks, onBatchEnd },
      ...(schedule !== undefined && { schedule }),
      ...(warmup !== undefined && { warmup }),
      ...(seed !== undefined && { seed }),
      ...(held && {
        evaluation: createBatches(held.examples, { size: batchSize, seed: undefined, collate: held.collate }),
        ...(hasMetric && { metrics: () => held.metric() as Metric }),
      }),
      ...(patience !== undefined && { patience }),
      ...(best !== undefined && { best }),
      ...(signal && { signal }),
      ...(checkpoint && { checkpoint }),
    })
  }
}

/** The trainer checks its own options. */
function checkTrainOptions(options: TrainOptions): void {
  checkOptions(options, '{ epochs: 3 }')
  checkOptionNames('train', options, OPTIONS)
  checkCounts(options, ['batchSize', 'maxLength', 'epochs', 'accumulate'])
  for (const option of ['patience', 'best'] as const)
    if (options[option] !== undefined && options.evaluation === undefined)
      throw new FourierFTError('INVALID_OPTION', `${option}: it needs the option evaluation beside it`, {
        option,
        received: options[option],
      })
  const onProgress: unknown = options.progress_callback
  if (onProgress !== undefined && typeof onProgress !== 'function')
    throw new FourierFTError('INVALID_OPTION', 'progress_callback: expected a function', {
      option: 'progress_callback',
      received: onProgress,
    })
}
