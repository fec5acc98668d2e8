/** The split is fixed, and no digit is in two sets. */
import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { classes, type DigitSet, imagePixels, pick, type SplitName } from './digits.js'
import { loadDigits } from './load-digits.js'

const digits = await loadDigits()
const names: SplitName[] = ['base', 'adaptation', 'validation', 'test']

const sha256 = (...parts: Uint8Array[]): string => {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return hash.digest('hex')
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array | Int32Array): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength)

const images = ({ count, pixels }: DigitSet): string[] =>
  Array.from({ length: count }, (_, i) =>
    sha256(bytesOf(pixels.subarray(i * imagePixels, (i + 1) * imagePixels))),
  )

describe('loadDigits', () => {
  it('puts every digit of the package into exactly one set', () => {
    expect(names.map((name) => digits[name].count)).toEqual([5500, 2000, 1000, 1500])
    const all = names.flatMap((name) => images(digits[name]))
    expect(all).toHaveLength(10_000)
    expect(new Set(all).size).toBe(10_000)
  })

  it('always makes the same split', () => {
    const digests = names.map((name) => sha256(bytesOf(digits[name].labels), bytesOf(digits[name].pixels)))
    expect(digests).toMatchInlineSnapshot(`
      [
        "b16adb26c9ceb5541594b4074b50b1a0c54cdf9b1c2139e6fb7a448c5b6333ac",
        "aee92ccb6262ae801e1a15260734e735bb37296883813651992b279ffb08b3b2",
        "2bac3c7ff41ed3ed2aca04eac59ec269dc66f188882ac1a17adb592ae94b69ef",
        "d96f1df8742efd7c8d511d877261b116c2c2ac2048f036f3ed66b6fa46fdc43e",
      ]
    `)
  })

  it('has every class in every set, and pixels from 0 to 1', () => {
    for (const name of names) {
      const { labels, pixels } = digits[name]
      expect(new Set(labels).size).toBe(classes)
      expect(pixels.every((value) => value >= 0 && value <= 1)).toBe(true)
    }
  })
})

describe('pick', () => {
  it('takes pixels and labels together, in the order of the indices', () => {
    const { test } = digits
    const picked = pick(test, [7, 3])
    expect([...picked.labels]).toEqual([test.labels[7], test.labels[3]])
    expect(picked.pixels.subarray(imagePixels)).toEqual(
      test.pixels.subarray(3 * imagePixels, 4 * imagePixels),
    )
  })
})
