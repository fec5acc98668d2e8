/** `prepare`: data → the examples and the loss of a training or an evaluation. Nothing of the model changes. */
import { FourierFTError } from '@fourierft/core'
import type { Loss, Metric, TrainingBatch } from '@fourierft/onnxruntime'
import type { ModelAdapters } from '../model-adapters.js'
import type { Labels } from './labels.js'
import { modelValues } from './model-values.js'
import { type Data, type DataFormat, readRows } from './read-rows.js'
import type { Example, TaskContext } from './task.js'
import { type AnyTask, taskOf } from './tasks/tasks.js'

export interface PrepareOptions {
  /** The task of a transformers.js pipeline. Default: that of the pipeline that was attached. */
  readonly task?: string
  /** The format of data in files. Default: by their extension. */
  readonly format?: DataFormat
  /** The most tokens of a row; longer rows are cut. Default: what the model accepts, but at most 512. */
  readonly maxLength?: number
  /** Language models: joins the texts of rows and divides them into blocks of `maxLength` tokens. Default: each row is a sequence of its own. */
  readonly packing?: boolean
  readonly signal?: AbortSignal
}

/** Checked rows of one task. */
export interface Rows {
  readonly task: AnyTask
  readonly rows: readonly unknown[]
}

/** Batches' contents. */
export interface Prepared {
  readonly examples: readonly Example[]
  readonly loss: Loss
  readonly evaluationLoss: Loss | undefined
  metric(): Metric | undefined
  collate(examples: readonly Example[]): Promise<TrainingBatch>
}

/** Encoders and processors of long texts cost memory for nothing if rows are short; a model's limit can be a million. */
const MAX_LENGTH = 512

/**
 * Reads and checks the rows.
 *
 * @param option the name of the option with the data, for errors
 * @throws {FourierFTError} as `train`
 */
export async function readTaskRows(
  adapters: ModelAdapters,
  data: Data,
  { task: name, format, signal }: PrepareOptions,
  option: 'data' | 'evaluation',
): Promise<Rows> {
  const task = taskOf(name ?? pipelineTask(adapters))
  const raw = await readRows(data, { option, ...(format && { format }), ...(signal && { signal }) })
  return { task, rows: inData(option, () => raw.map((row, position) => task.check(row, position))) }
}

/**
 * Tokenises rows.
 *
 * @param training the rows of the training, which decide about the loss
 */
export async function encodeRows(
  context: TaskContext,
  { task, rows }: Rows,
  training: Rows,
  option: 'data' | 'evaluation',
  { signal }: Pick<PrepareOptions, 'signal'> = {},
): Promise<Prepared> {
  const encoder = task.encoder(context, training.rows)
  const examples = await inData(option, () => encoder.encode(rows, signal && { signal }))
  return {
    examples,
    loss: encoder.loss,
    evaluationLoss: encoder.evaluationLoss,
    metric: () => encoder.metric(),
    collate: (batch) => encoder.collate(batch),
  }
}

/** What the tasks need of the model. */
export function contextOf(
  adapters: ModelAdapters,
  labels: Labels | undefined,
  { task, maxLength, packing, labelSmoothing }: PrepareOptions & { readonly labelSmoothing?: number },
): TaskContext {
  const { pipeline, model } = adapters
  const name = task ?? pipelineTask(adapters)
  if (packing !== undefined && (typeof packing !== 'boolean' || (packing && name !== 'text-generation')))
    throw new FourierFTError(
      'INVALID_OPTION',
      `packing: expected true or false, true only for text-generation; received ${String(packing)}`,
      {
        option: 'packing',
        received: packing,
      },
    )
  const tokenizer = pipeline?.tokenizer ?? undefined
  const positions = positionsOf(model.config as unknown as Record<string, unknown>)
  const limits = [tokenizer?.model_max_length, positions, MAX_LENGTH]
  if (maxLength !== undefined && positions !== undefined && maxLength > positions)
    throw new FourierFTError(
      'INVALID_OPTION',
      `maxLength: expected at most ${positions}, the positions of the model; received ${maxLength}`,
      { option: 'maxLength', expected: positions, received: maxLength },
    )
  return {
    pipeline: name,
    model,
    tokenizer,
    processor: pipeline?.processor ?? undefined,
    ...modelValues(adapters),
    labels,
    maxLength: maxLength ?? Math.min(...limits.filter((limit) => typeof limit === 'number')),
    ...(packing !== undefined && { packing }),
    ...(labelSmoothing !== undefined && { labelSmoothing }),
  }
}

/** Models like RoBERTa number the positions from after the padding token on. */
const FROM_PADDING = ['roberta', 'xlm-roberta', 'camembert', 'mpnet']

/** The number of positions that the model has learned; undefined for relative positions, and if the configuration does not tell. */
function positionsOf(config: Readonly<Record<string, unknown>>): number | undefined {
  const {
    max_position_embeddings: most,
    n_positions: positions,
    model_type: type,
    pad_token_id: padding,
  } = config
  // T5 has this field, but its positions are relative.
  const count = most ?? (type === 't5' || type === 'mt5' ? undefined : positions)
  if (typeof count !== 'number') return undefined
  return FROM_PADDING.includes(String(type)) ? count - Number(padding ?? 1) - 1 : count
}

/** @throws {FourierFTError} `UNSUPPORTED` for a model that was attached without its pipeline */
function pipelineTask({ pipeline }: ModelAdapters): string {
  const task = pipeline?.task
  if (typeof task === 'string') return task
  throw new FourierFTError('UNSUPPORTED', 'train: a model alone has no tokenizer and no task', {
    advice: "load a pipeline, such as pipeline('text-classification', …), and attach to it",
  })
}

/** Says in errors which data a row is of. */
function inData<T>(option: 'data' | 'evaluation', work: () => T): T {
  const explain = (error: unknown) => {
    if (!FourierFTError.isInstance(error) || error.details.row === undefined) return error
    return new FourierFTError(error.code, `${option}, ${error.problem}`, {
      ...error.details,
      ...(error.advice !== undefined && { advice: error.advice }),
    })
  }
  const rejected = (error: unknown): never => {
    throw explain(error)
  }
  try {
    const result = work()
    return result instanceof Promise ? (result.catch(rejected) as T) : result
  } catch (error) {
    return rejected(error)
  }
}
