/** Compares a weight of the base model in an adapter's file with the current weight of a model. */

/**
 * One of the two may have been rounded to another type: to bfloat16, with a relative error of up to 2⁻⁸, or to float16, with an absolute
 * error of up to half its smallest number, 2⁻²⁵, among its subnormal numbers.
 */
const RELATIVE_TOLERANCE = 2 ** -8
const ABSOLUTE_TOLERANCE = 2 ** -25

/** Checks whether the weights differ by more than a rounding to another floating-point type. */
export function isOtherWeight(saved: ArrayLike<number>, current: ArrayLike<number>): boolean {
  if (saved.length !== current.length) return true
  for (let i = 0; i < saved.length; i++) {
    const [a, b] = [saved[i], current[i]]
    const limit = RELATIVE_TOLERANCE * Math.max(Math.abs(a), Math.abs(b)) + ABSOLUTE_TOLERANCE
    if (!(Object.is(a, b) || Math.abs(a - b) <= limit)) return true
  }
  return false
}
