/** The error for arrays and layers whose shapes do not fit each other. */
import { FourierFTError } from '../errors.js'

export function shapeMismatch(what: string, expected: string, received: number | string): FourierFTError {
  return new FourierFTError('SHAPE_MISMATCH', `${what}: expected ${expected}; received ${received}`, {
    expected,
    received,
  })
}
