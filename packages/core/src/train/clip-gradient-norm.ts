/** Gradient clipping by the norm of all vectors together, like `torch.nn.utils.clip_grad_norm_`. */
import type { FloatArray } from '../adapter/layer.js'
import { FourierFTError } from '../errors.js'
import { rejectNonFinite } from './reject-non-finite.js'

/**
 * Scales all `gradients` in place by `min(1, maxNorm / (norm + 1e-6))`, where `norm` is the Euclidean norm of all of them as one vector.
 *
 * If the norm is not finite, PyTorch turns every gradient into NaN, unless `error_if_nonfinite` is set; this function throws.
 *
 * @param maxNorm at least 0
 * @returns the norm before clipping
 * @throws {FourierFTError} `NOT_FINITE` for a gradient with NaN or infinity, `INVALID_OPTION` for a bad `maxNorm`. Nothing is changed
 * after an error.
 */
export function clipGradientNorm(gradients: readonly FloatArray[], maxNorm: number): number {
  if (!(maxNorm >= 0)) {
    throw new FourierFTError(
      'INVALID_OPTION',
      `maxNorm: expected a number of at least 0; received ${maxNorm}`,
      {
        option: 'maxNorm',
        expected: 'a number ≥ 0',
        received: maxNorm,
      },
    )
  }
  let sum = 0
  for (const [index, gradient] of gradients.entries()) {
    rejectNonFinite(gradient, `clipGradientNorm: gradient ${index}`)
    for (const value of gradient) sum += value * value
  }
  const norm = Math.sqrt(sum)
  const factor = maxNorm / (norm + 1e-6)
  if (factor < 1) {
    for (const gradient of gradients) {
      for (let i = 0; i < gradient.length; i++) gradient[i] = gradient[i] * factor
    }
  }
  return norm
}
