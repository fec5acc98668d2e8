/**
 * Entries drawn with a preference for a band of frequencies, as in the paper's study of frequency bias. The
 * weight of the entry `(j, k)` falls with the distance of its frequency from a ring of radius `f_c` around
 * frequency zero:
 *
 *     p = exp(−((D² − f_c²)/(D·W))²),   D² = u² + v²
 *
 * with `u`, `v` the signed frequencies of `j`, `k`: distances in the centred spectrum of figure 3, of entries
 * that are plain DFT indices.
 *
 * @see "Parameter-Efficient Fine-Tuning with Discrete Fourier Transform" (Gao et al., 2024), equation 5
 */
import { FourierFTError } from '../errors.js'
import type { Entries, Shape } from './entries.js'
import { entriesAtPlaces } from './entries-at-places.js'
import { exp } from './exponential.js'
import { MersenneTwister } from './mersenne-twister.js'
import { seedWord } from './seed.js'
import { checkEntryCount, countPlaces } from './shape.js'
import { weightedSample } from './weighted-sample.js'

/** The paper's. */
const DEFAULT_BANDWIDTH = 200

/** `p` below `e⁻⁷⁰⁰` counts as 0: a quotient by such a weight would overflow. */
const LARGEST_EXPONENT = 700

/** A map of this many places takes 1 GiB. */
const LARGEST_MAP = 2 ** 27

export interface BandPassMapOptions {
  readonly shape: Shape
  /**
   * `f_c ≥ 0`, in cycles over the whole dimension, as the indices of a DFT. 0 prefers the lowest frequencies.
   */
  readonly centerFrequency: number
  /** `W > 0`. Default: 200. */
  readonly bandwidth?: number
}

export interface BandPassOptions extends BandPassMapOptions {
  /** Number of entries, `1 …` number of places with a weight. */
  readonly n: number
  /** A safe integer, or a bigint in `−2⁶³ … 2⁶⁴ − 1`. */
  readonly seed: number | bigint
}

/**
 * `n` distinct entries, drawn one after another with weights `p` of equation 5; the same for a seed on every
 * engine, and the first `m < n` of them are those that `n = m` gives.
 *
 * Takes memory for `n` entries and time for `d1·d2` places.
 *
 * @throws {FourierFTError} `INVALID_OPTION` for a bad shape, seed, centre or bandwidth; `INVALID_ENTRY_COUNT`
 *   for an `n` that is no positive integer or larger than the number of places with a weight (`p` below
 *   `e⁻⁷⁰⁰` is none)
 */
export function bandPassEntries({
  shape,
  n,
  seed,
  centerFrequency,
  bandwidth = DEFAULT_BANDWIDTH,
}: BandPassOptions): Entries {
  const places = countPlaces(shape)
  checkEntryCount(n, places, shape)
  checkBand(centerFrequency, bandwidth)
  const random = new MersenneTwister(seedWord(seed))
  const chosen = weightedSample(random, places, bandPassWeight(shape, centerFrequency, bandwidth), n)
  if (chosen.length < n) {
    throw new FourierFTError(
      'INVALID_ENTRY_COUNT',
      `n: only ${chosen.length} of the ${places} places of a [${shape[0]}, ${shape[1]}] spectrum have a weight at centre frequency ` +
        `${centerFrequency} and bandwidth ${bandwidth}, fewer than the ${n} entries asked for; choose a smaller n or a larger bandwidth`,
      { option: 'n', expected: `at most ${chosen.length}`, received: n },
    )
  }
  return entriesAtPlaces(shape, chosen, { sampler: 'bandpass', seed, n, centerFrequency, bandwidth })
}

/**
 * The weights `p` that `bandPassEntries` draws with, row-major `[d1, d2]` in the order of stored entries:
 * frequency zero at `(0, 0)`. To draw them as figure 3 does, with frequency zero in the middle, move `(j, k)`
 * to `((j + ⌊d1/2⌋) mod d1, (k + ⌊d2/2⌋) mod d2)`.
 *
 * @throws {FourierFTError} `INVALID_OPTION` for a bad centre or bandwidth, or a shape that is bad or has more
 *   than 2²⁷ places
 */
export function bandPassMap({
  shape,
  centerFrequency,
  bandwidth = DEFAULT_BANDWIDTH,
}: BandPassMapOptions): Float64Array {
  const places = countPlaces(shape)
  if (places > LARGEST_MAP) {
    throw new FourierFTError(
      'INVALID_OPTION',
      `shape: a map is made of at most 2^27 places; [${shape[0]}, ${shape[1]}] has ${places}`,
      { option: 'shape', expected: 'd1·d2 ≤ 2^27', received: shape },
    )
  }
  checkBand(centerFrequency, bandwidth)
  const weightOf = bandPassWeight(shape, centerFrequency, bandwidth)
  return Float64Array.from({ length: places }, (_, place) => weightOf(place))
}

/** `p` of the place `j·d2 + k`. Where `D = 0` it is the limit: 1 for `f_c = 0`, otherwise 0. */
function bandPassWeight(
  [d1, d2]: Shape,
  centerFrequency: number,
  bandwidth: number,
): (place: number) => number {
  return (place) => {
    const j = Math.floor(place / d2)
    const u = signedFrequency(j, d1)
    const v = signedFrequency(place - j * d2, d2)
    const squared = u * u + v * v
    if (squared === 0) return centerFrequency === 0 ? 1 : 0
    const offset = (squared - centerFrequency * centerFrequency) / bandwidth
    const exponent = (offset * offset) / squared
    return exponent > LARGEST_EXPONENT ? 0 : exp(-exponent)
  }
}

/** The frequency in `−⌊d/2⌋ … ⌈d/2⌉ − 1` that index `i` of a DFT of length `d` stands for. */
function signedFrequency(i: number, d: number): number {
  return 2 * i < d ? i : i - d
}

function checkBand(centerFrequency: number, bandwidth: number): void {
  if (!(Number.isFinite(centerFrequency) && centerFrequency >= 0)) {
    throw new FourierFTError(
      'INVALID_OPTION',
      `centerFrequency: expected a finite number, 0 or larger; received ${centerFrequency}`,
      { option: 'centerFrequency', expected: 'a finite number ≥ 0', received: centerFrequency },
    )
  }
  if (!(Number.isFinite(bandwidth) && bandwidth > 0)) {
    throw new FourierFTError(
      'INVALID_OPTION',
      `bandwidth: expected a finite number larger than 0; received ${bandwidth}`,
      { option: 'bandwidth', expected: 'a finite number > 0', received: bandwidth },
    )
  }
}
