/** Batches of rows of similar lengths, in an order that a seed determines, the same in every runtime. */
import { randomPermutation } from '@fourierft/core'
import type { TrainingBatch } from '@fourierft/onnxruntime'
import type { Example } from './task.js'

/** Batches that can be read again in each epoch. */
export interface Batches {
  /** The number of batches of an epoch. */
  readonly length: number
  /** What the batches depend on: a checkpoint of others is rejected. */
  readonly description: string
  batches(epoch: number): AsyncIterable<TrainingBatch>
}

export interface BatchOptions<E extends Example> {
  /** The number of rows of a batch; the last rows may be a smaller one. */
  readonly size: number
  /** The order of epoch e is that of seed + e; undefined: sorted by length, the same in each epoch, for evaluations. */
  readonly seed: number | undefined
  collate(examples: readonly E[]): Promise<TrainingBatch>
}

/** Rows are sorted by length within groups of at most so many batches. */
const GROUP = 50
/** There are at least so many groups if there are enough rows, so that a batch has other rows in each epoch. */
const LEAST_GROUPS = 4

/**
 * Batches that have little padding: shuffled rows are divided into groups, each group is sorted by length and divided into batches, and the
 * batches are shuffled.
 *
 * @see `LengthGroupedSampler` of Hugging Face's transformers
 */
export function createBatches<E extends Example>(
  examples: readonly E[],
  { size, seed, collate }: BatchOptions<E>,
): Batches {
  return {
    length: Math.ceil(examples.length / size),
    description: `${examples.length} rows with the lengths ${digestOf(examples)} in batches of ${size}${seed === undefined ? '' : ` with seed ${seed}`}`,
    async *batches(epoch) {
      const order =
        seed === undefined ? batchesByLength(examples, size) : shuffledBatches(examples, size, seed + epoch)
      for (const batch of order) yield await collate(batch.map((index) => examples[index]))
    },
  }
}

/** Returns the positions of the rows of each batch, longest rows first: if a batch is too large for the memory, it is the first one. */
function batchesByLength(examples: readonly Example[], size: number): number[][] {
  return chunks(
    sortByLength(
      examples,
      examples.map((_, index) => index),
    ),
    size,
  )
}

function shuffledBatches(examples: readonly Example[], size: number, seed: number): number[][] {
  const groupBatches = Math.max(1, Math.min(GROUP, Math.floor(examples.length / (size * LEAST_GROUPS))))
  const groups = chunks(randomPermutation(examples.length, seed), groupBatches * size)
  const batches = groups.flatMap((group) => chunks(sortByLength(examples, group), size))
  return randomPermutation(batches.length, seed).map((index) => batches[index])
}

/** Sorting is stable in JavaScript, so rows of equal lengths keep their order. */
function sortByLength(examples: readonly Example[], indices: readonly number[]): number[] {
  return [...indices].sort((a, b) => examples[b].length - examples[a].length)
}

function chunks(values: readonly number[], size: number): number[][] {
  const count = Math.ceil(values.length / size)
  return Array.from({ length: count }, (_, i) => values.slice(i * size, (i + 1) * size))
}

/** FNV-1a of the lengths. */
function digestOf(examples: readonly Example[]): string {
  let hash = 0x811c9dc5
  for (const { length } of examples) hash = Math.imul(hash ^ length, 0x01000193)
  return (hash >>> 0).toString(16)
}
