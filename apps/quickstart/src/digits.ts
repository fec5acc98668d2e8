/** The data: real handwritten digits, split once and for all into four sets without overlap. Where they come from: `load-digits.ts`. */
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

/** How many digits each set has, in this order, of all digits shuffled. */
const split = { base: 5500, adaptation: 2000, validation: 1000, test: 1500 } as const

/** Which set a digit is in is decided by `torch.randperm(10000)` of this seed, which is what core's uniform entries are. */
const splitSeed = 2024

export type SplitName = keyof typeof split
export type Digits = Readonly<Record<SplitName, DigitSet>>

/** All digits, class after class, as four sets: `base` trains the base model, `adaptation` the adapters; rates are chosen on `validation`. */
export function splitDigits(all: DigitSet): Digits {
  const order = uniformEntries({ shape: [1, all.count], n: all.count, seed: splitSeed }).columns
  const take = (from: number, count: number) => pick(all, order.subarray(from, from + count))
  const { base, adaptation, validation, test } = split
  return {
    base: take(0, base),
    adaptation: take(base, adaptation),
    validation: take(base + adaptation, validation),
    test: take(base + adaptation + validation, test),
  }
}

/** The digits at `indices`, in that order. */
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

/** The first `count` digits, or all if there are fewer. */
export const firstDigits = (digits: DigitSet, count: number): DigitSet =>
  pick(
    digits,
    Array.from({ length: Math.min(count, digits.count) }, (_, index) => index),
  )
