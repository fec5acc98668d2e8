/** Asks a session of the exported model about digits, in Node or in the browser. */
import type { AdaptedSession, Ort } from '@fourierft/onnxruntime'
import { classes, type DigitSet, imagePixels, imageSize } from './digits.js'
import { logits as outputName, pixelValues } from './onnx-transformer.js'

/**
 * @param TensorClass of the ONNX Runtime that the session is of
 * @returns logits `[count, classes]`
 */
export async function onnxLogits(
  session: Pick<AdaptedSession, 'run'>,
  TensorClass: Ort['Tensor'],
  { count, pixels }: DigitSet,
  batchSize = 250,
): Promise<Float32Array> {
  const logits = new Float32Array(count * classes)
  for (let start = 0; start < count; start += batchSize) {
    const size = Math.min(batchSize, count - start)
    const part = pixels.subarray(start * imagePixels, (start + size) * imagePixels)
    const images = new TensorClass(
      'float32',
      part.map((value) => 2 * value - 1),
      [size, 1, imageSize, imageSize],
    )
    const results = await session.run({ [pixelValues]: images })
    logits.set(results[outputName]?.data as Float32Array, start * classes)
  }
  return logits
}
