/** Rotates digits: the new domain to which the base model is adapted. */
import { type DigitSet, imagePixels, imageSize } from './digits.js'

/** Rotates every digit clockwise around the centre of its image with bilinear interpolation. Points outside the image are paper (0). */
export function rotateDigits(digits: DigitSet, degrees: number): DigitSet {
  const [cos, sin] = [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)]
  const middle = (imageSize - 1) / 2
  const pixels = new Float32Array(digits.pixels.length)
  for (let start = 0; start < pixels.length; start += imagePixels) {
    const image = digits.pixels.subarray(start, start + imagePixels)
    for (let y = 0; y < imageSize; y++) {
      for (let x = 0; x < imageSize; x++) {
        const [right, down] = [x - middle, y - middle]
        const value = sample(image, cos * right + sin * down + middle, cos * down - sin * right + middle)
        pixels[start + y * imageSize + x] = value
      }
    }
  }
  return { ...digits, pixels }
}

/** The value of the image at a point between its pixels. */
function sample(image: Float32Array, x: number, y: number): number {
  const [left, top] = [Math.floor(x), Math.floor(y)]
  const [right, down] = [x - left, y - top]
  const upper = (1 - right) * pixel(image, left, top) + right * pixel(image, left + 1, top)
  const lower = (1 - right) * pixel(image, left, top + 1) + right * pixel(image, left + 1, top + 1)
  return (1 - down) * upper + down * lower
}

const pixel = (image: Float32Array, x: number, y: number): number =>
  x >= 0 && x < imageSize && y >= 0 && y < imageSize ? (image[y * imageSize + x] ?? 0) : 0
