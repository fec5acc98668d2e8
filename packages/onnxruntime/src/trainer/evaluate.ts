/** `evaluate`: the loss and metrics of an adapter on data, without a trainer. */
import { FourierFTError } from '@fourierft/core'
import type { Loss } from '@fourierft/onnx'
import type { InferenceSession, Tensor } from 'onnxruntime-common'
import { BlockMeter } from './block-meter.js'
import { checkBatch, checkLoss, checkNames, checkValues } from './check-options.js'
import { batchesOf, type Dataset } from './dataset.js'
import { checkMetric, type EvaluateOptions, type Evaluation } from './metric.js'
import { Parameters } from './parameters.js'
import type { Trainable } from './trainable.js'
import type { TrainingBatch } from './trainer.js'
import type { TrainingSession } from './training-session.js'

export interface AdapterEvaluation extends EvaluateOptions {
  /** The name of the adapter. Default: the active one. */
  readonly adapter?: string
  readonly loss: Loss
}

/**
 * Measures an adapter. It opens another session for that, without gradients, so that operators need no gradient rules.
 *
 * @throws {FourierFTError} `ADAPTER_NOT_FOUND`; `INVALID_OPTION` and `SHAPE_MISMATCH` for options, feeds and labels; `NOT_FINITE` for a loss that is NaN or
 *   infinite; `INVALID_STATE` if the model is released meanwhile
 */
export async function evaluate(
  { trainable }: Trainable,
  data: Dataset,
  options: AdapterEvaluation,
): Promise<Evaluation> {
  checkNames('evaluate', options, ['adapter', 'loss', 'metrics'] satisfies (keyof AdapterEvaluation)[])
  const { loss, metrics } = options
  checkValues({ adapter: options.adapter }, 'the name of an adapter', (value) => typeof value === 'string')
  checkLoss(loss)
  const { adapter } = trainable.adapterToTrain(options.adapter)
  const session = await trainable.openTraining(adapter, { loss, gradients: false })
  try {
    const parameters = new Parameters(adapter, session)
    return await measure(session, data, {
      metrics,
      run: (batch, fetches, blocks) => blocks.during(() => session.run(batch, parameters.feeds(), fetches)),
    })
  } finally {
    await session.release()
  }
}

export interface Measurement extends EvaluateOptions {
  run(
    batch: TrainingBatch,
    fetches: readonly string[],
    blocks: BlockMeter,
  ): Promise<InferenceSession.ReturnType>
}

/** The mean loss of all batches, and what a metric measures. */
export async function measure(
  { graph, output }: TrainingSession,
  data: Dataset,
  { metrics, run }: Measurement,
): Promise<Evaluation> {
  checkMetric(metrics)
  const fetches = [graph.loss, graph.count, ...(metrics?.add ? [output] : [])]
  const blocks = new BlockMeter()
  let [loss, count, batches] = [0, 0, 0]
  for await (const batch of batchesOf(data, { epoch: 0, first: 0, order: { shuffle: false, seed: 0 } })) {
    checkBatch(batch)
    await blocks.pause()
    const results = await run(batch, fetches, blocks)
    loss += numberOf(results, graph.loss)
    count += numberOf(results, graph.count)
    metrics?.add?.(results[output] as Tensor, batch)
    batches++
  }
  if (batches === 0)
    throw new FourierFTError('INVALID_OPTION', 'data: there are no batches to evaluate', {
      option: 'data',
      advice: 'give an array, or a function that returns the batches; an iterable that was read is used up',
    })
  if (!(count > 0))
    throw new FourierFTError('INVALID_OPTION', 'labels: the batches have no labels that count', {
      option: 'labels',
      advice: 'leave such batches out',
    })
  if (!Number.isFinite(loss))
    throw new FourierFTError('NOT_FINITE', `the loss of the evaluation is ${loss}`, {
      received: loss,
      advice: 'check the feeds, or train with a lower learning rate',
    })
  return { loss: loss / count, metrics: metrics?.result(loss / count), longestBlock: blocks.longest() }
}

/** A number that a training graph computes. */
export function numberOf(results: InferenceSession.ReturnType, name: string): number {
  return Number(results[name]?.data[0])
}
