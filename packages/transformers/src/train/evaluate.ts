/** `evaluate`: measures an adapter of a transformers.js pipeline on rows. */
import { invalidState } from '@fourierft/core'
import { evaluate as evaluateBatches } from '@fourierft/onnxruntime'
import { checkOptions } from '../check-options.js'
import { labelsOfConfig } from '../class-labels.js'
import type { ModelAdapters } from '../model-adapters.js'
import { createBatches } from './batches.js'
import { checkAdapters, checkCounts, checkOptionNames } from './check-train-options.js'
import { labelsOfHead } from './labels.js'
import { contextOf, encodeRows, type PrepareOptions, readTaskRows } from './prepare.js'
import type { Data } from './read-rows.js'

export interface EvaluateOptions extends PrepareOptions {
  /** The name of the adapter. Default: the active one. */
  readonly adapter?: string
  /** Rows in a batch. Default: 16. */
  readonly batchSize?: number
}

export interface EvaluationReport {
  readonly task: string
  readonly adapter: string
  /** The mean loss of all labels. */
  readonly loss: number
  /** Accuracy, F1, perplexity and others, as the task has them. */
  readonly metrics: Readonly<Record<string, number>>
  readonly rows: {
    readonly evaluation: number
    /** Rows that were too long. Their ends were not used. */
    readonly cut: number
  }
}

const OPTIONS = [
  'adapter',
  'task',
  'format',
  'maxLength',
  'packing',
  'batchSize',
  'signal',
] as const satisfies (keyof EvaluateOptions)[]

/**
 * Measures an adapter, whether it is active or not. An adapter that `addAdapter` has just made changes nothing, so it shows the base model.
 *
 * @param data as for `train`
 * @throws {FourierFTError} as `train`; also `INVALID_OPTION` with the row for labels that the adapter and the model do not have
 */
export async function evaluate(
  adapters: ModelAdapters,
  data: Data,
  options: EvaluateOptions = {},
): Promise<EvaluationReport> {
  checkAdapters(adapters)
  checkOptions(options, '{ batchSize: 32 }')
  checkOptionNames('evaluate', options, OPTIONS)
  checkCounts(options, ['batchSize', 'maxLength'])
  const { name } = adapters.trainable.adapterToTrain(options.adapter)
  const rows = await readTaskRows(adapters, data, options, 'data')
  const { labels: own, isMissing } = adapters.headOf(name)
  if (isMissing)
    throw invalidState(
      `adapter '${name}' has no head for this task, and neither has the model`,
      'train it first',
    )
  const known = own ?? labelsOfConfig(adapters.model.config)
  const labels = rows.task.labelsOf && labelsOfHead(known)
  const context = contextOf(adapters, labels, options)
  const { examples, loss, metric, collate } = await encodeRows(context, rows, rows, 'data', options)
  const batches = createBatches(examples, {
    size: options.batchSize ?? 16,
    seed: undefined,
    collate(batch) {
      options.signal?.throwIfAborted()
      return collate(batch)
    },
  })
  const measured = await evaluateBatches(adapters, batches, { adapter: name, loss, metrics: metric() })
  return {
    task: context.pipeline,
    adapter: name,
    loss: measured.loss,
    metrics: measured.metrics ?? {},
    rows: { evaluation: rows.rows.length, cut: examples.filter(({ cut }) => cut > 0).length },
  }
}
