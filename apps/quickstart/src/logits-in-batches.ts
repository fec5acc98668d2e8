/** Asks a model about digits, some hundred at a time, in the form in which the exported model takes images. */
import { classes, type DigitSet, imagePixels, imageSize } from './digits.js'

/** Images `[batch, 1, 28, 28]`, −1…1, of these dims → logits `[batch, classes]`. */
export type Ask = (images: Float32Array, dims: number[]) => Promise<Float32Array>

/** @returns logits `[count, classes]` */
export async function logitsInBatches(
  { count, pixels }: DigitSet,
  ask: Ask,
  batchSize = 250,
): Promise<Float32Array> {
  const logits = new Float32Array(count * classes)
  for (let start = 0; start < count; start += batchSize) {
    const size = Math.min(batchSize, count - start)
    const part = pixels.subarray(start * imagePixels, (start + size) * imagePixels)
    const images = part.map((value) => 2 * value - 1)
    logits.set(await ask(images, [size, 1, imageSize, imageSize]), start * classes)
  }
  return logits
}
