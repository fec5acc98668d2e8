/** Runs a session of the exported model on digits, in Node or in the browser. */
import type { AdaptedSession, Ort } from '@fourierft/onnxruntime'
import type { DigitSet } from './digits.js'
import { logitsInBatches } from './logits-in-batches.js'
import { logits, pixelValues } from './onnx-transformer.js'

/**
 * @param TensorClass the tensor class of the session's ONNX Runtime
 * @returns logits `[count, classes]`
 */
export const onnxLogits = (
  session: Pick<AdaptedSession, 'run'>,
  TensorClass: Ort['Tensor'],
  digits: DigitSet,
  batchSize?: number,
): Promise<Float32Array> =>
  logitsInBatches(
    digits,
    async (images, dims) => {
      const results = await session.run({ [pixelValues]: new TensorClass('float32', images, dims) })
      return results[logits]?.data as Float32Array
    },
    batchSize,
  )
