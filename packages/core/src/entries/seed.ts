/** The part of a seed that PyTorch's CPU generator uses. */
import { FourierFTError } from '../errors.js'

const SMALLEST = -(2n ** 63n)
const LARGEST = 2n ** 64n - 1n

/**
 * Returns the 32 bits of a 64-bit seed that PyTorch's CPU generator uses: the low half, with negative seeds in two's
 * complement.
 *
 * @param seed a safe integer, or a bigint in `−2⁶³ … 2⁶⁴ − 1`, the range of `torch.manual_seed`
 * @throws {FourierFTError} `INVALID_OPTION` for any other seed
 */
export function seedWord(seed: number | bigint): number {
  const value = typeof seed === 'number' && Number.isSafeInteger(seed) ? BigInt(seed) : seed
  if (typeof value !== 'bigint' || value < SMALLEST || value > LARGEST) {
    throw new FourierFTError(
      'INVALID_OPTION',
      `seed: expected an integer in -2^63 … 2^64 − 1 (a bigint beyond ±(2^53 − 1)); received ${String(seed)}`,
      { option: 'seed', expected: 'an integer in -2^63 … 2^64 − 1', received: seed },
    )
  }
  return Number(BigInt.asUintN(32, value))
}
