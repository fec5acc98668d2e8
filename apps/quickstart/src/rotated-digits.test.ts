import { describe, expect, it } from 'vitest'
import { type DigitSet, imagePixels, imageSize } from './digits.js'
import { rotateDigits } from './rotated-digits.js'

/** One image with a single dark pixel. */
const dot = (x: number, y: number): DigitSet => {
  const pixels = new Float32Array(imagePixels)
  pixels[y * imageSize + x] = 1
  return { count: 1, pixels, labels: Int32Array.of(0) }
}

describe('rotateDigits', () => {
  it('does not change digits at 0°', () => {
    expect(rotateDigits(dot(5, 9), 0).pixels).toEqual(dot(5, 9).pixels)
  })

  it('rotates clockwise: 90° move the top right corner to the bottom right', () => {
    const { pixels } = rotateDigits(dot(27, 0), 90)
    const [darkest] = [...pixels.keys()].sort((a, b) => (pixels[b] ?? 0) - (pixels[a] ?? 0))
    expect(darkest).toBe(27 * imageSize + 27)
    // The sine of 90° is exact and the cosine is 6e-17, so the neighbours get no ink.
    expect(pixels[27 * imageSize + 27]).toBeCloseTo(1, 12)
  })

  it('spreads a pixel bilinearly', () => {
    const { pixels } = rotateDigits(dot(14, 10), 45)
    // A pixel at distances (u, v) from the dot gets the ink (1 − |u|)·(1 − |v|), where u and v are its coordinates rotated back by 45°.
    const hat = (distance: number) => Math.max(0, 1 - Math.abs(distance))
    const [middle, cos] = [(imageSize - 1) / 2, Math.SQRT1_2]
    for (let y = 0; y < imageSize; y++) {
      for (let x = 0; x < imageSize; x++) {
        const u = cos * (x - middle) + cos * (y - middle) + middle - 14
        const v = cos * (y - middle) - cos * (x - middle) + middle - 10
        // One rounding of a value of at most 1 to float32.
        expect(Math.abs((pixels[y * imageSize + x] ?? Number.NaN) - hat(u) * hat(v))).toBeLessThan(2 ** -24)
      }
    }
    expect(pixels.reduce((sum, value) => sum + value, 0)).toBeGreaterThan(0.5)
    expect(pixels.reduce((sum, value) => sum + value, 0)).toBeLessThan(1.5)
  })
})
