/** Entries drawn uniformly: the paper's default, and the very integers that PEFT draws for the same seed. */
import { FourierFTError } from '../errors.js'
import type { Entries, Shape } from './entries.js'
import { entriesAtPlaces } from './entries-at-places.js'
import { MersenneTwister } from './mersenne-twister.js'
import { permutationFromFront, permutationInsideOut, WIDE_DRAWS_FROM } from './random-permutation.js'
import { seedWord } from './seed.js'
import { checkEntryCount, countPlaces } from './shape.js'

export interface UniformOptions {
  readonly shape: Shape
  /** Number of entries, `1 … d1·d2`. */
  readonly n: number
  /** A safe integer, or a bigint in `−2⁶³ … 2⁶⁴ − 1`; PEFT's `random_loc_seed` (777 there). */
  readonly seed: number | bigint
  /** `legacy`: the 32-bit form for every size, as older PyTorch did; no difference below 214748364 places. */
  readonly algorithm?: 'legacy'
}

/**
 * `torch.randperm(d1·d2, generator=torch.Generator().manual_seed(seed))[:n]`, place `v` being the entry
 * `(⌊v/d2⌋, v mod d2)`.
 *
 * Takes memory for `n` entries; time for `n` below 214748364 places, and for `d1·d2` draws from there on: seconds,
 * up to a minute at 2³² places.
 *
 * @throws {FourierFTError} `INVALID_OPTION` for a bad shape, seed or algorithm, `INVALID_ENTRY_COUNT` for a
 *   bad `n`
 * @see PEFT, `FourierFTLayer.update_layer`; PyTorch, `randperm_cpu`
 */
export function uniformEntries({ shape, n, seed, algorithm }: UniformOptions): Entries {
  const places = countPlaces(shape)
  checkEntryCount(n, places, shape)
  if (algorithm !== undefined && algorithm !== 'legacy') {
    throw new FourierFTError(
      'INVALID_OPTION',
      `algorithm: expected 'legacy' or nothing; received ${String(algorithm)}`,
      { option: 'algorithm', expected: ['legacy', undefined], received: algorithm },
    )
  }
  const random = new MersenneTwister(seedWord(seed))
  const wide = places >= WIDE_DRAWS_FROM && algorithm === undefined
  const chosen = wide ? permutationInsideOut(random, places, n) : permutationFromFront(random, places, n)
  return entriesAtPlaces(shape, chosen, { sampler: 'uniform', seed, n, ...(algorithm && { algorithm }) })
}
