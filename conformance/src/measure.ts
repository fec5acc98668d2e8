/** Measures of errors as single numbers. NaN stays NaN, so that it exceeds every limit. */
import type { FloatArray } from '@fourierft/core'

/** Returns `max|actual − expected|`, or NaN if `actual` contains NaN. @throws {Error} if the lengths differ */
export function largestDifference(actual: FloatArray, expected: ArrayLike<number>): number {
  checkLength(actual, expected)
  let largest = 0
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(actual[i] - expected[i])
    if (!(difference <= largest)) largest = difference
    if (Number.isNaN(largest)) return largest
  }
  return largest
}

export function largestMagnitude(numbers: ArrayLike<number>): number {
  let largest = 0
  for (let i = 0; i < numbers.length; i++) largest = Math.max(largest, Math.abs(numbers[i]))
  return largest
}

/** Returns `max|actual − expected| / max|expected|`. */
export function relativeError(actual: FloatArray, expected: ArrayLike<number>): number {
  const magnitude = largestMagnitude(expected)
  return largestDifference(actual, expected) / (magnitude === 0 ? 1 : magnitude)
}

/** Counts the elements with different bits (−0 is not 0). */
export function differingBits(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  checkLength(actual, expected)
  let count = 0
  for (let i = 0; i < expected.length; i++) if (!Object.is(actual[i], expected[i])) count++
  return count
}

function checkLength(actual: ArrayLike<number>, expected: ArrayLike<number>): void {
  if (actual.length === expected.length) return
  throw new Error(`expected ${expected.length} numbers, received ${actual.length}`)
}
