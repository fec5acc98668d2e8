/** `Metric`: what an evaluation measures beside the loss. */
import type { Tensor } from 'onnxruntime-common'
import { checkValues } from './check-options.js'
import type { TrainingBatch } from './trainer.js'

/** Collects the outputs of one evaluation. */
export interface Metric {
  /**
   * Adds a batch. A metric that needs only the loss does not have this method.
   *
   * @param output the output of the model that the loss reads, with the adapter, in the model's own type
   */
  add?(output: Tensor, batch: TrainingBatch): void
  /**
   * The results by their names, such as `{ accuracy: 0.9 }`. Called once, after the last batch.
   *
   * @param loss the mean loss of the evaluation
   */
  result(loss: number): Readonly<Record<string, number>>
}

export interface EvaluateOptions {
  /** What is measured beside the loss. */
  readonly metrics?: Metric | undefined
}

export interface Evaluation {
  /** The mean over all labels that count. */
  readonly loss: number
  /** The result of the option `metrics`; undefined without it. */
  readonly metrics: Readonly<Record<string, number>> | undefined
  /** As in `StepReport`. */
  readonly longestBlock: number
}

/** @throws {FourierFTError} `INVALID_OPTION` */
export function checkMetric(metrics: unknown): void {
  checkValues({ metrics }, 'an object with the method result, and add for each batch', isMetric)
}

function isMetric(value: unknown): boolean {
  const { add, result } = (value ?? {}) as Partial<Metric>
  return ['function', 'undefined'].includes(typeof add) && typeof result === 'function'
}
