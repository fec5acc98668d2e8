/** Checks of the shape and of `n` that every sampler makes before it allocates memory. */
import { FourierFTError } from '../errors.js'
import type { Shape } from './entries.js'

/** Positions `j·d2 + k` of a spectrum are stored in 32 bits. */
const MAX_POSITIONS = 2 ** 32

/**
 * Returns the number of positions `d1·d2` of a spectrum.
 *
 * @throws {FourierFTError} `INVALID_OPTION` unless `d1` and `d2` are positive integers with `d1·d2 ≤ 2³²`
 */
export function countPositions(shape: Shape): number {
  const [d1, d2] = Array.isArray(shape) ? (shape as Shape) : []
  if (
    d1 === undefined ||
    d2 === undefined ||
    shape.length !== 2 ||
    ![d1, d2].every((d) => Number.isSafeInteger(d) && d >= 1)
  ) {
    throw new FourierFTError(
      'INVALID_OPTION',
      `shape: expected [d1, d2], two positive integers ([out, in]); received ${Array.isArray(shape) ? `[${shape.join(', ')}]` : shape}`,
      { option: 'shape', expected: 'two positive integers', received: shape },
    )
  }
  if (d1 * d2 > MAX_POSITIONS) {
    throw new FourierFTError(
      'INVALID_OPTION',
      `shape: a spectrum has at most 2^32 positions; [${d1}, ${d2}] has ${d1 * d2}`,
      { option: 'shape', expected: 'd1·d2 ≤ 2^32', received: shape },
    )
  }
  return d1 * d2
}

/**
 * Checks `n` before entries are drawn.
 *
 * @param positions number of positions of the spectrum
 * @throws {FourierFTError} `INVALID_ENTRY_COUNT` unless `n` is an integer in `1 … positions`
 */
export function checkEntryCount(n: number, positions: number, shape: Shape): void {
  if (!Number.isSafeInteger(n) || n < 1) {
    throw new FourierFTError('INVALID_ENTRY_COUNT', `n: expected a positive integer; received ${n}`, {
      option: 'n',
      expected: 'a positive integer',
      received: n,
    })
  }
  if (n > positions) {
    throw new FourierFTError(
      'INVALID_ENTRY_COUNT',
      `n: a spectrum of shape [${shape[0]}, ${shape[1]}] has ${positions} positions; received ${n}`,
      { advice: 'choose a smaller n', option: 'n', expected: `at most ${positions}`, received: n },
    )
  }
}
