/** The data of a training: batches, in an order that a seed determines. */
import { FourierFTError, uniformEntries } from '@fourierft/core'
import type { TrainingBatch } from './trainer.js'

/**
 * Batches: an array, which is shuffled in each epoch, or a function that opens the data again for each epoch. An iterable that can be read only
 * once serves a single epoch.
 */
export type Dataset<Batch = TrainingBatch> =
  | readonly Batch[]
  | Iterable<Batch>
  | AsyncIterable<Batch>
  | ((
      epoch: number,
    ) => Iterable<Batch> | AsyncIterable<Batch> | Promise<Iterable<Batch> | AsyncIterable<Batch>>)

export interface Order {
  readonly shuffle: boolean
  /** The order of epoch e is that of seed + e. */
  readonly seed: number
}

/** The number of batches of an epoch; undefined if only reading them tells. */
export function batchCount(data: Dataset<unknown>): number | undefined {
  return Array.isArray(data) ? data.length : undefined
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
    const order = shuffle ? permutation(batches.length, seed + epoch) : batches.map((_, i) => i)
    for (const index of order.slice(first)) yield batches[index]
    return
  }
  const isFunction = typeof data === 'function'
  if (!isFunction && (epoch > 0 || first > 0) && isIterator(data))
    throw new FourierFTError(
      'INVALID_OPTION',
      'dataset: these batches can be read only once, but a second epoch or a resumed run reads them again',
      { option: 'dataset', advice: 'give an array, or a function that returns the batches of an epoch' },
    )
  let position = 0
  for await (const batch of isFunction ? await data(epoch) : (data as AsyncIterable<Batch>)) {
    if (position >= first) yield batch
    position++
  }
}

function isIterator(data: object): boolean {
  return 'next' in data && typeof data.next === 'function'
}

/** `torch.randperm(length)` with that seed. */
function permutation(length: number, seed: number): number[] {
  return length === 0 ? [] : Array.from(uniformEntries({ shape: [1, length], n: length, seed }).columns)
}
