import { describe, expect, it } from 'vitest'
import { type DigitSet, imagePixels, imageSize } from './digits.js'
import { turned } from './turned-digits.js'

/** One image with a single dark pixel. */
const dot = (x: number, y: number): DigitSet => {
  const pixels = new Float32Array(imagePixels)
  pixels[y * imageSize + x] = 1
  return { count: 1, pixels, labels: Int32Array.of(0) }
}

describe('turned', () => {
  it('leaves the digits alone at 0°', () => {
    expect(turned(dot(5, 9), 0).pixels).toEqual(dot(5, 9).pixels)
  })

  it('turns clockwise: at 90° the top right corner comes to the bottom right', () => {
    const { pixels } = turned(dot(27, 0), 90)
    const [darkest] = [...pixels.keys()].sort((a, b) => (pixels[b] ?? 0) - (pixels[a] ?? 0))
    expect(darkest).toBe(27 * imageSize + 27)
    // The sine of 90° is exact and the cosine 6e-17: nothing is spread over the neighbours.
    expect(pixels[27 * imageSize + 27]).toBeCloseTo(1, 12)
  })

  it('keeps the ink of what stays inside', () => {
    const { pixels } = turned(dot(14, 10), 45)
    // One pixel's bilinear footprint, sampled at the turned grid: its area is 1, the sum near it.
    expect(pixels.reduce((sum, value) => sum + value, 0)).toBeGreaterThan(0.5)
    expect(pixels.reduce((sum, value) => sum + value, 0)).toBeLessThan(1.5)
  })
})
