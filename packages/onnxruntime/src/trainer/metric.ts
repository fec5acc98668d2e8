/** `Metric`: what an evaluation measures beside the loss. */
import type { Tensor } from 'onnxruntime-common'
import { checkValues, invalid } from './check-options.js'
import type { TrainingBatch } from './trainer.js'

/** Collects the outputs of one evaluation. */
export interface Metric {
  /** The output of the model that the metric reads. It has to be that of the loss. Undefined for a metric that needs only the loss. */
  readonly output: string | undefined
  /**
   * Adds a batch. Not called if `output` is undefined.
   *
   * @param output with the adapter, in the model's own type
   */
  add(output: Tensor, batch: TrainingBatch): void
  /**
   * The results by their names, such as `{ accuracy: 0.9 }`. Called once, after the last batch.
   *
   * @param loss the mean loss of the evaluation
   */
  result(loss: number): Readonly<Record<string, number>>
}

export interface EvaluateOptions {
  /** The first evaluation with a metric that reads an output opens another session. */
  readonly metrics?: Metric | undefined
}

export interface Evaluation {
  /** The mean over all labels that count. */
  readonly loss: number
  /** The result of the option `metrics`; undefined without it. */
  readonly metrics: Readonly<Record<string, number>> | undefined
}

/** @throws {FourierFTError} `INVALID_OPTION` */
export function checkMetric(metrics: Metric | undefined, output: string): void {
  checkValues({ metrics }, 'an object with the methods add and result', isMetric)
  if (metrics?.output !== undefined && metrics.output !== output)
    throw invalid(
      'metrics.output',
      `the output of the loss, ${JSON.stringify(output)}, or undefined`,
      metrics.output,
    )
}

function isMetric(value: unknown): boolean {
  const { add, result } = (value ?? {}) as Partial<Metric>
  return typeof add === 'function' && typeof result === 'function'
}
