/** Entries drawn uniformly: the paper's default. A seed gives the same entries as in PEFT. */
import { FourierFTError } from '../errors.js'
import type { Entries, Shape } from './entries.js'
import { entriesAtPositions } from './entries-at-positions.js'
import { MersenneTwister } from './mersenne-twister.js'
import { permutationFromFront, permutationInsideOut, WIDE_DRAWS_FROM } from './random-permutation.js'
import { seedWord } from './seed.js'
import { checkEntryCount, countPositions } from './shape.js'

export interface UniformOptions {
  readonly shape: Shape
  /** Number of entries, `1 … d1·d2`. */
  readonly n: number
  /** A safe integer, or a bigint in `−2⁶³ … 2⁶⁴ − 1`; PEFT's `random_loc_seed` (its default is 777). */
  readonly seed: number | bigint
  /** `legacy`: the 32-bit algorithm of older PyTorch for every size. It makes no difference below 214748364 positions. */
  readonly algorithm?: 'legacy'
}

/**
 * Draws the entries of `torch.randperm(d1·d2, generator=torch.Generator().manual_seed(seed))[:n]`, where position
 * `v` is the entry `(⌊v/d2⌋, v mod d2)`.
 *
 * Takes memory for `n` entries. Below 214748364 positions it makes `n` draws. From there on it makes `d1·d2` draws,
 * which takes seconds; at 2³² positions, a minute.
 *
 * @throws {FourierFTError} `INVALID_OPTION` for a bad shape, seed or algorithm, `INVALID_ENTRY_COUNT` for a
 *   bad `n`
 * @see PEFT, `FourierFTLayer.update_layer`; PyTorch, `randperm_cpu`
 */
export function uniformEntries({ shape, n, seed, algorithm }: UniformOptions): Entries {
  const positions = countPositions(shape)
  checkEntryCount(n, positions, shape)
  if (algorithm !== undefined && algorithm !== 'legacy') {
    throw new FourierFTError(
      'INVALID_OPTION',
      `algorithm: expected 'legacy' or undefined; received ${String(algorithm)}`,
      { option: 'algorithm', expected: ['legacy', undefined], received: algorithm },
    )
  }
  const random = new MersenneTwister(seedWord(seed))
  const wide = positions >= WIDE_DRAWS_FROM && algorithm === undefined
  const chosen = wide
    ? permutationInsideOut(random, positions, n)
    : permutationFromFront(random, positions, n)
  return entriesAtPositions(shape, chosen, { sampler: 'uniform', seed, n, ...(algorithm && { algorithm }) })
}

/** Returns the numbers from 0 to `length` − 1 in a random order: that of `torch.randperm(length)` with that seed, below 214748364 numbers. */
export function randomPermutation(length: number, seed: number): number[] {
  return length === 0 ? [] : Array.from(uniformEntries({ shape: [1, length], n: length, seed }).columns)
}
