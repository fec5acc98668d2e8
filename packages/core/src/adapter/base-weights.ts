/** Whether a weight of the base model that an adapter's file brings along is the one that a model has. */

/**
 * The adapter may have been trained in bfloat16 and the model be of float32, or the other way round: one rounding to 8 bits is between
 * them. Below the normal numbers of float16 it is half of the smallest one.
 */
const RELATIVE = 2 ** -8
const ABSOLUTE = 2 ** -25

/** Whether numbers that should be equal differ by more than their storage in another floating-point type explains. */
export function isOtherWeight(saved: ArrayLike<number>, own: ArrayLike<number>): boolean {
  if (saved.length !== own.length) return true
  for (let i = 0; i < saved.length; i++) {
    const [a, b] = [saved[i], own[i]]
    const limit = RELATIVE * Math.max(Math.abs(a), Math.abs(b)) + ABSOLUTE
    if (!(Object.is(a, b) || Math.abs(a - b) <= limit)) return true
  }
  return false
}
