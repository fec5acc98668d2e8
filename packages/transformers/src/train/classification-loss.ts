/** Cross-entropy, smoothed for the training if that is wanted. Evaluations are never smoothed, so that they can be compared. */
import { FourierFTError } from '@fourierft/core'
import { crossEntropy } from '@fourierft/onnxruntime'
import type { TaskContext, TaskEncoder } from './task.js'

/** Returns the losses of a task that compares logits with classes or tokens. */
export function classificationLoss(
  output: string,
  { labelSmoothing = 0 }: TaskContext,
): Pick<TaskEncoder<unknown>, 'loss' | 'evaluationLoss'> {
  if (labelSmoothing === 0) return { loss: crossEntropy(output) }
  return { loss: crossEntropy(output, { labelSmoothing }), evaluationLoss: crossEntropy(output) }
}

/** @throws {FourierFTError} `INVALID_OPTION` for label smoothing in a task whose loss is not a cross-entropy over classes */
export function rejectSmoothing({ labelSmoothing = 0 }: TaskContext): void {
  if (labelSmoothing !== 0)
    throw new FourierFTError(
      'INVALID_OPTION',
      'labelSmoothing: the loss of these rows is not a cross-entropy over classes',
      { option: 'labelSmoothing', received: labelSmoothing, advice: 'leave the option out' },
    )
}
