/** The format of the digits that the page fetches: for each digit its label and its 784 pixels, one byte each (255 is ink). */
import { type DigitSet, imagePixels } from '@fourierft/quickstart/browser'

const record = 1 + imagePixels

export function packDigits({ count, labels, pixels }: DigitSet): Uint8Array {
  const bytes = new Uint8Array(count * record)
  for (let i = 0; i < count; i++) {
    bytes[i * record] = labels[i] ?? 0
    for (let j = 0; j < imagePixels; j++)
      bytes[i * record + 1 + j] = Math.round(255 * (pixels[i * imagePixels + j] ?? 0))
  }
  return bytes
}

/** @throws if the number of bytes is not a multiple of the size of a digit */
export function unpackDigits(bytes: Uint8Array): DigitSet {
  const count = bytes.length / record
  if (!Number.isInteger(count)) {
    throw new Error(
      `the file of digits has ${bytes.length} bytes, which is not a multiple of ${record}; build the page again`,
    )
  }
  const labels = new Int32Array(count)
  const pixels = new Float32Array(count * imagePixels)
  for (let i = 0; i < count; i++) {
    labels[i] = bytes[i * record] ?? 0
    for (let j = 0; j < imagePixels; j++) pixels[i * imagePixels + j] = (bytes[i * record + 1 + j] ?? 0) / 255
  }
  return { count, labels, pixels }
}
