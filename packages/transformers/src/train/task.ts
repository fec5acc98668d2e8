/** `Task`: what a pipeline's task means for training: which rows it has, how they become batches, and which loss they have. */
import type { Loss, Metric, TrainingBatch } from '@fourierft/onnxruntime'
import type { PreTrainedModel, PreTrainedTokenizer, Processor } from '@huggingface/transformers'

/** What tasks need of the model and the pipeline. */
export interface TaskContext {
  readonly model: PreTrainedModel
  readonly tokenizer: PreTrainedTokenizer | undefined
  readonly processor: Processor | undefined
  /** The inputs of the session that is trained. */
  readonly inputs: readonly InputMetadata[]
  /** The names of classes by their ids, for tasks that have classes. */
  readonly labels: readonly string[]
  /** The most tokens of a row. Longer rows are cut. */
  readonly maxLength: number
}

/** An input of a session: its name, type and shape. A name stands for a size that is known only at run time. */
export interface InputMetadata {
  readonly name: string
  readonly type: string
  readonly shape: readonly (number | string)[]
}

/** A row that has been tokenised. */
export interface Example {
  /** The number of tokens; rows of similar lengths share a batch. 0 for images. */
  readonly length: number
  /** The number of tokens that were cut off. */
  readonly cut: number
}

/** Makes the batches of one task for one model. */
export interface TaskEncoder<Row, E extends Example = Example> {
  readonly loss: Loss
  /** The metrics of an evaluation; undefined for rows that have none. */
  metric(): Metric | undefined
  /**
   * @param position the row's position in the data, from 0, for errors
   * @throws {FourierFTError} `INVALID_OPTION` for a row that has no tokens
   */
  encode(row: Row, position: number): Promise<E>
  /** The feeds that transformers.js would give the session for these rows, padded to the longest, and the labels. */
  collate(examples: readonly E[]): Promise<TrainingBatch>
}

export interface Task<Row> {
  /** The tasks of transformers.js' pipelines that are trained in this way. */
  readonly pipelines: readonly string[]
  /** The module of the task's head in PEFT's configuration, such as `SEQ_CLS`; null if the task has none of its own. */
  readonly taskType: string | null
  /**
   * Checks one row of the data, which may come from anywhere.
   *
   * @throws {FourierFTError} `INVALID_OPTION` with the row's position and the field
   */
  check(row: unknown, position: number): Row
  /** The names of the classes in a row; undefined for tasks without classes, and for numbers. */
  classesOf?(row: Row): readonly string[]
  encoder(context: TaskContext, rows: readonly Row[]): TaskEncoder<Row>
}
