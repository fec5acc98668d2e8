/** Rejects gradients with NaN or infinity before a parameter changes. */
import type { FloatArray } from '../adapter/layer.js'
import { FourierFTError } from '../errors.js'

/** Checks a vector. @throws {FourierFTError} `NOT_FINITE`, with the first index of NaN or infinity */
export function rejectNonFinite(vector: FloatArray, name: string): void {
  const index = vector.findIndex((value) => !Number.isFinite(value))
  if (index === -1) return
  throw new FourierFTError(
    'NOT_FINITE',
    `${name}: expected finite numbers; received ${vector[index]} at index ${index}; nothing was changed`,
    {
      advice: 'skip this batch, or lower the learning rate',
      expected: 'finite numbers',
      received: vector[index],
    },
  )
}
