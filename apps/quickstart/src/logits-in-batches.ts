/** Runs the exported model on digits in batches, with images in the format that it expects. */
import { classes, type DigitSet, imagePixels, imageSize } from './digits.js'

/** Runs the model on images `[batch, 1, 28, 28]`, −1…1, whose shape is `dims`, and returns logits `[batch, classes]`. */
export type RunBatch = (images: Float32Array, dims: number[]) => Promise<Float32Array>

/** @returns logits `[count, classes]` */
export async function logitsInBatches(
  { count, pixels }: DigitSet,
  runBatch: RunBatch,
  batchSize = 250,
): Promise<Float32Array> {
  const logits = new Float32Array(count * classes)
  for (let start = 0; start < count; start += batchSize) {
    const size = Math.min(batchSize, count - start)
    const part = pixels.subarray(start * imagePixels, (start + size) * imagePixels)
    const images = part.map((value) => 2 * value - 1)
    logits.set(await runBatch(images, [size, 1, imageSize, imageSize]), start * classes)
  }
  return logits
}
