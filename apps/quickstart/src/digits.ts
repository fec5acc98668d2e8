/** The data: handwritten digits in four fixed, disjoint sets. `load-digits.ts` reads them. */
import { uniformEntries } from '@fourierft/core'

export const imageSize = 28
export const imagePixels = imageSize * imageSize
export const classes = 10

export interface DigitSet {
  readonly count: number
  /** `[count, 28, 28]`, row-major, 0 (paper) … 1 (ink). */
  readonly pixels: Float32Array
  /** `[count]`, 0…9. */
  readonly labels: Int32Array
}

/** The number of digits in each set. The sets divide the shuffled digits in this order. */
const split = { base: 5500, adaptation: 2000, validation: 1000, test: 1500 } as const

/** The digits are shuffled by `torch.randperm(10000)` with this seed, computed as core's uniform entries. */
const splitSeed = 2024

export type SplitName = keyof typeof split
export type Digits = Readonly<Record<SplitName, DigitSet>>

/**
 * Splits all digits into four sets: `base` is for training the base model, `adaptation` for training adapters, `validation` for choosing
 * learning rates, and `test` for the results.
 *
 * @param all all digits, in the order of their classes
 */
export function splitDigits(all: DigitSet): Digits {
  const order = uniformEntries({ shape: [1, all.count], n: all.count, seed: splitSeed }).columns
  const take = (start: number, count: number) => pick(all, order.subarray(start, start + count))
  const { base, adaptation, validation, test } = split
  return {
    base: take(0, base),
    adaptation: take(base, adaptation),
    validation: take(base + adaptation, validation),
    test: take(base + adaptation + validation, test),
  }
}

/** Returns the digits at `indices`, in that order. */
export function pick(digits: DigitSet, indices: ArrayLike<number>): DigitSet {
  const count = indices.length
  const pixels = new Float32Array(count * imagePixels)
  const labels = new Int32Array(count)
  for (let i = 0; i < count; i++) {
    const index = indices[i] ?? 0
    pixels.set(digits.pixels.subarray(index * imagePixels, (index + 1) * imagePixels), i * imagePixels)
    labels[i] = digits.labels[index] ?? 0
  }
  return { count, pixels, labels }
}

/** Returns the first `count` digits, or all if there are fewer. */
export const firstDigits = (digits: DigitSet, count: number): DigitSet =>
  pick(
    digits,
    Array.from({ length: Math.min(count, digits.count) }, (_, index) => index),
  )
