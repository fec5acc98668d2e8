/**
 * Entries drawn with a preference for a band of frequencies, as in the paper's study of frequency bias. The
 * weight of the entry `(j, k)` falls with the distance of its frequency from a ring of radius `f_c` around
 * frequency zero:
 *
 *     p = exp(−((D² − f_c²)/(D·W))²),   D² = u² + v²
 *
 * `u` and `v` are the signed frequencies of `j` and `k`: `D` is a distance in the centred spectrum of figure 3,
 * and the entries themselves are plain DFT indices.
 *
 * @see "Parameter-Efficient Fine-Tuning with Discrete Fourier Transform" (Gao et al., 2024), equation 5
 */
import { FourierFTError } from '../errors.js'
import type { Entries, Shape } from './entries.js'
import { entriesAtPositions } from './entries-at-positions.js'
import { exp } from './exponential.js'
import { MersenneTwister } from './mersenne-twister.js'
import { seedWord } from './seed.js'
import { checkEntryCount, countPositions } from './shape.js'
import { weightedSample } from './weighted-sample.js'

/** The paper's bandwidth. */
const DEFAULT_BANDWIDTH = 200

/** A weight below `e⁻⁷⁰⁰` counts as 0: dividing by it would overflow. */
const LARGEST_EXPONENT = 700

/** Most positions of a map, which then takes 1 GiB. */
const LARGEST_MAP = 2 ** 27

export interface BandPassMapOptions {
  readonly shape: Shape
  /**
   * `f_c ≥ 0`, in cycles over the whole dimension, like the indices of a DFT. 0 prefers the lowest frequencies.
   */
  readonly centerFrequency: number
  /** `W > 0`. Default: 200. */
  readonly bandwidth?: number
}

export interface BandPassOptions extends BandPassMapOptions {
  /** Number of entries: at least 1, at most the number of positions with a weight above 0. */
  readonly n: number
  /** A safe integer, or a bigint in `−2⁶³ … 2⁶⁴ − 1`. */
  readonly seed: number | bigint
}

/**
 * Draws `n` distinct entries one after another with the weights `p` of equation 5. A seed gives the same entries
 * on every engine, and the first `m` of them are the entries that `n = m` gives.
 *
 * Takes memory for `n` entries and time for `d1·d2` positions.
 *
 * @throws {FourierFTError} `INVALID_OPTION` for a bad shape, seed, centre or bandwidth; `INVALID_ENTRY_COUNT`
 *   for an `n` that is not a positive integer or exceeds the number of positions with a weight above 0 (a weight
 *   below `e⁻⁷⁰⁰` counts as 0)
 */
export function bandPassEntries({
  shape,
  n,
  seed,
  centerFrequency,
  bandwidth = DEFAULT_BANDWIDTH,
}: BandPassOptions): Entries {
  const positions = countPositions(shape)
  checkEntryCount(n, positions, shape)
  checkBand(centerFrequency, bandwidth)
  const random = new MersenneTwister(seedWord(seed))
  const chosen = weightedSample(random, positions, bandPassWeight(shape, centerFrequency, bandwidth), n)
  if (chosen.length < n) {
    throw new FourierFTError(
      'INVALID_ENTRY_COUNT',
      `n: only ${chosen.length} of the ${positions} positions of a [${shape[0]}, ${shape[1]}] spectrum have a weight above 0 at ` +
        `centre frequency ${centerFrequency} and bandwidth ${bandwidth}; received ${n}`,
      {
        advice: 'choose a smaller n or a larger bandwidth',
        option: 'n',
        expected: `at most ${chosen.length}`,
        received: n,
      },
    )
  }
  return entriesAtPositions(shape, chosen, { sampler: 'bandpass', seed, n, centerFrequency, bandwidth })
}

/**
 * Returns the weights `p` of all positions, with which `bandPassEntries` draws: row-major `[d1, d2]`, with frequency
 * zero at `(0, 0)`. To show them as in figure 3, with frequency zero in the middle, move `(j, k)` to
 * `((j + ⌊d1/2⌋) mod d1, (k + ⌊d2/2⌋) mod d2)`.
 *
 * @throws {FourierFTError} `INVALID_OPTION` for a bad shape, centre or bandwidth, or a shape with more than 2²⁷
 *   positions
 */
export function bandPassMap({
  shape,
  centerFrequency,
  bandwidth = DEFAULT_BANDWIDTH,
}: BandPassMapOptions): Float64Array {
  const positions = countPositions(shape)
  if (positions > LARGEST_MAP) {
    throw new FourierFTError(
      'INVALID_OPTION',
      `shape: a map has at most 2^27 positions; [${shape[0]}, ${shape[1]}] has ${positions}`,
      { option: 'shape', expected: 'd1·d2 ≤ 2^27', received: shape },
    )
  }
  checkBand(centerFrequency, bandwidth)
  const weightOf = bandPassWeight(shape, centerFrequency, bandwidth)
  return Float64Array.from({ length: positions }, (_, position) => weightOf(position))
}

/** Returns the function that gives `p` at position `j·d2 + k`. At `D = 0`, `p` is its limit: 1 for `f_c = 0`, otherwise 0. */
function bandPassWeight(
  [d1, d2]: Shape,
  centerFrequency: number,
  bandwidth: number,
): (position: number) => number {
  return (position) => {
    const j = Math.floor(position / d2)
    const u = signedFrequency(j, d1)
    const v = signedFrequency(position - j * d2, d2)
    const squared = u * u + v * v
    if (squared === 0) return centerFrequency === 0 ? 1 : 0
    const offset = (squared - centerFrequency * centerFrequency) / bandwidth
    const exponent = (offset * offset) / squared
    return exponent > LARGEST_EXPONENT ? 0 : exp(-exponent)
  }
}

/** Returns the frequency in `−⌊d/2⌋ … ⌈d/2⌉ − 1` of index `i` in a DFT of length `d`. */
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
