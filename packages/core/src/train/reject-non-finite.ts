/** The check that every gradient passes before anything is changed by it. */
import type { FloatArray } from '../adapter/layer.js'
import { FourierFTError } from '../errors.js'

/** @throws FourierFTError `NOT_FINITE` naming the first index of `vector` that holds NaN or infinity */
export function rejectNonFinite(vector: FloatArray, what: string): void {
  const index = vector.findIndex((value) => !Number.isFinite(value))
  if (index === -1) return
  throw new FourierFTError(
    'NOT_FINITE',
    `${what} holds ${vector[index]} at index ${index}: expected finite numbers; nothing was changed. Skip this batch, or lower ` +
      'the learning rate',
    { expected: 'finite numbers', received: vector[index] },
  )
}
