/** The data of a training: batches, in an order that a seed determines. */
import { FourierFTError, randomPermutation } from '@fourierft/core'
import type { TrainingBatch } from './trainer.js'

/** The batches of one epoch. */
type Epoch<Batch> = Iterable<Batch> | AsyncIterable<Batch> | Promise<Iterable<Batch> | AsyncIterable<Batch>>

/** Batches that are made anew in each epoch. */
export interface CountedBatches<Batch = TrainingBatch> {
  /** The number of batches of each epoch. */
  readonly length: number
  /** What the batches depend on, such as a seed: a checkpoint of batches with another description is rejected. */
  readonly description?: string
  /** @param epoch from 0. The same epoch has the same batches, so that a resumed run can go on in it */
  batches(epoch: number): Epoch<Batch>
}

/**
 * Batches: an array, which is shuffled in each epoch; an object or a function that opens the data again for each epoch; or an iterable, which serves
 * a single epoch if it can be read only once. The schedules need the number of batches, which only an array and an object tell.
 */
export type Dataset<Batch = TrainingBatch> =
  | readonly Batch[]
  | Iterable<Batch>
  | AsyncIterable<Batch>
  | CountedBatches<Batch>
  | ((epoch: number) => Epoch<Batch>)

export interface Order {
  readonly shuffle: boolean
  /** The order of epoch e is that of seed + e. */
  readonly seed: number
}

/** The number of batches of an epoch; undefined if only reading them tells. */
export function batchCount(data: Dataset<unknown>): number | undefined {
  return Array.isArray(data) || isCounted(data) ? data.length : undefined
}

/** The description of counted batches. */
export function descriptionOf(data: Dataset<unknown>): string | undefined {
  return isCounted(data) ? data.description : undefined
}

/**
 * The batches of one epoch from a position on.
 *
 * @throws {FourierFTError} `INVALID_OPTION` for data that can be read only once, in a second epoch or if they are resumed
 */
export async function* batchesOf<Batch>(
  data: Dataset<Batch>,
  {
    epoch,
    first,
    order: { shuffle, seed },
  }: { readonly epoch: number; readonly first: number; readonly order: Order },
): AsyncGenerator<Batch> {
  if (Array.isArray(data)) {
    const batches = data as readonly Batch[]
    const order = shuffle ? randomPermutation(batches.length, seed + epoch) : batches.map((_, i) => i)
    for (const index of order.slice(first)) yield batches[index]
    return
  }
  const open = isCounted(data) ? data.batches.bind(data) : typeof data === 'function' ? data : undefined
  if (open === undefined && (epoch > 0 || first > 0) && isIterator(data as object))
    throw new FourierFTError(
      'INVALID_OPTION',
      'dataset: these batches can be read only once, but a second epoch or a resumed run reads them again',
      { option: 'dataset', advice: 'give an array, or a function that returns the batches of an epoch' },
    )
  let position = 0
  for await (const batch of open ? await open(epoch) : (data as AsyncIterable<Batch>)) {
    if (position >= first) yield batch
    position++
  }
}

function isCounted<Batch>(data: Dataset<Batch>): data is CountedBatches<Batch> {
  return typeof data === 'object' && 'batches' in data && typeof data.batches === 'function'
}

function isIterator(data: object): boolean {
  return 'next' in data && typeof data.next === 'function'
}
