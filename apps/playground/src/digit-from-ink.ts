/**
 * Converts a drawing to the format of the data set's digits: scaled to 20×20 pixels, with its centre of mass in the middle of 28×28.
 *
 * @see LeCun, Cortes and Burges, "The MNIST database of handwritten digits"
 */
import { imagePixels, imageSize } from '@fourierft/quickstart/browser'

/** The longer side of a digit, in pixels. */
const digitSize = 20

/**
 * @param ink `[size, size]`, row-major, 0 (paper) … 1 (ink)
 * @returns `[28, 28]`, or undefined without ink
 */
export function digitFromInk(ink: Float32Array, size: number): Float32Array | undefined {
  const extent = measure(ink, size)
  if (extent === undefined) return undefined
  const scale = extent.longest / digitSize
  const samples = Math.ceil(scale)
  const digit = new Float32Array(imagePixels)
  for (let y = 0; y < imageSize; y++) {
    for (let x = 0; x < imageSize; x++) {
      // The mean ink in the area of this pixel.
      let sum = 0
      for (let i = 0; i < samples; i++) {
        for (let j = 0; j < samples; j++) {
          const row = Math.floor(extent.centreY + (y + (i + 0.5) / samples - imageSize / 2) * scale)
          const column = Math.floor(extent.centreX + (x + (j + 0.5) / samples - imageSize / 2) * scale)
          if (row >= 0 && row < size && column >= 0 && column < size) sum += ink[row * size + column] ?? 0
        }
      }
      digit[y * imageSize + x] = sum / samples ** 2
    }
  }
  return digit
}

interface Extent {
  /** The longer side of the box around the ink. */
  readonly longest: number
  /** The centre of mass. */
  readonly centreX: number
  readonly centreY: number
}

function measure(ink: Float32Array, size: number): Extent | undefined {
  let [left, right, top, bottom] = [size, -1, size, -1]
  let [mass, sumX, sumY] = [0, 0, 0]
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const value = ink[y * size + x] ?? 0
      if (value === 0) continue
      left = Math.min(left, x)
      right = Math.max(right, x)
      top = Math.min(top, y)
      bottom = Math.max(bottom, y)
      mass += value
      sumX += value * (x + 0.5)
      sumY += value * (y + 0.5)
    }
  }
  if (mass === 0) return undefined
  return {
    longest: Math.max(right - left, bottom - top) + 1,
    centreX: sumX / mass,
    centreY: sumY / mass,
  }
}
