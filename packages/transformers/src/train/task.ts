/** `Task`: what a pipeline's task means for training: which rows it has, how they become batches, and which loss they have. */
import type { Loss, Metric, TrainingBatch } from '@fourierft/onnxruntime'
import type { PreTrainedModel, PreTrainedTokenizer, Processor } from '@huggingface/transformers'
import type { EncodeOptions } from './each-row.js'
import type { KnownLabels, Labels } from './labels.js'

/** What tasks need of the model and the pipeline. */
export interface TaskContext {
  /** The task of the pipeline, such as `text-classification`. */
  readonly pipeline: string
  readonly model: PreTrainedModel
  readonly tokenizer: PreTrainedTokenizer | undefined
  readonly processor: Processor | undefined
  /** The inputs of the graph that is trained. In a graph of an encoder and a decoder, the token ids of the decoder are `decoder_input_ids`. */
  readonly inputs: readonly ValueMetadata[]
  readonly outputs: readonly ValueMetadata[]
  /** The labels of the training, from the task's `labelsOf`; undefined for tasks without classes. */
  readonly labels: Labels | undefined
  /** The most tokens of a row. Longer rows are cut. */
  readonly maxLength: number
  /** Language models: joins the texts of rows and divides them into blocks of `maxLength` tokens. Otherwise each row is a sequence of its own. */
  readonly packing?: boolean
  /** For losses that are cross-entropies. Default: 0. */
  readonly labelSmoothing?: number
}

/** An input or an output of a session: its name, type and shape. A name stands for a size that is known only at run time. */
export interface ValueMetadata {
  readonly name: string
  readonly type: string
  readonly shape: readonly (number | string)[]
}

/** A row, or a part of one, that has been tokenised. */
export interface Example {
  /** The number of tokens; rows of similar lengths share a batch. 0 for images. */
  readonly length: number
  /** The number of tokens that were cut off. */
  readonly cut: number
}

/** Makes the batches of one task for one model. */
export interface TaskEncoder<Row, E extends Example = Example> {
  readonly loss: Loss
  /** The loss of evaluations, if it differs from that of the training. */
  readonly evaluationLoss?: Loss
  /** A new metric for one evaluation; undefined for rows that have none. */
  metric(): Metric | undefined
  /**
   * Converts rows to examples. Most tasks have one for each row; language models may join or divide rows.
   *
   * @throws {FourierFTError} `INVALID_OPTION` with the row's position, for labels that the training does not have, and for rows whose tokens
   *   are all cut off. An abort throws the signal's reason
   */
  encode(rows: readonly Row[], options?: EncodeOptions): Promise<readonly E[]>
  /** The feeds that transformers.js would give the session for these rows, padded to the longest, and the labels. */
  collate(examples: readonly E[]): Promise<TrainingBatch>
}

export interface Task<Row, E extends Example = Example> {
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
  /**
   * Chooses the labels of a training, for tasks that have a head.
   *
   * @throws {FourierFTError} `INVALID_OPTION` with the row
   */
  labelsOf?(rows: readonly Row[], known: KnownLabels): Labels
  /**
   * @param rows the rows of the training, which decide about the loss of some tasks
   * @throws {FourierFTError} `UNSUPPORTED` for a model without the inputs, the outputs or the tokenizer of the task
   */
  encoder(context: TaskContext, rows: readonly Row[]): TaskEncoder<Row, E>
}
