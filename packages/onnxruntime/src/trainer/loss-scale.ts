/**
 * The factor of the loss in models with float16, whose numbers begin at 2⁻²⁴ and end at 65504. It keeps gradients within these limits. A power of
 * two, so that multiplying and dividing by it are exact.
 *
 * @see Micikevicius et al., "Mixed precision training", section 3.2
 */

export interface LossScale {
  readonly scale: number
  /** Steps since its last change. */
  readonly steps: number
}

/** Gradients of up to 1, as cross-entropy has them, stay finite. */
export const FIRST_LOSS_SCALE: LossScale = { scale: 2 ** 15, steps: 0 }
/** As in PyTorch's `GradScaler`. */
const STEPS_BEFORE_GROWTH = 2000
/** With it, gradients of 2⁻⁴⁸ are not lost. */
const LARGEST_SCALE = 2 ** 24

/** The scale after gradients that are not finite: half of it; undefined below 1, where the scale is not the cause. */
export function halved({ scale }: LossScale): LossScale | undefined {
  return scale > 1 ? { scale: scale / 2, steps: 0 } : undefined
}

/** The scale after a step with finite gradients. It doubles after 2000 of them. */
export function afterStep({ scale, steps }: LossScale): LossScale {
  return steps + 1 < STEPS_BEFORE_GROWTH
    ? { scale, steps: steps + 1 }
    : { scale: Math.min(2 * scale, LARGEST_SCALE), steps: 0 }
}

/** Whether the steps of a training can have led to this scale. */
export function isLossScale({ scale, steps }: LossScale): boolean {
  const isPowerOfTwo = Number.isInteger(Math.log2(scale)) && scale >= 1 && scale <= LARGEST_SCALE
  return isPowerOfTwo && Number.isSafeInteger(steps) && steps >= 0 && steps < STEPS_BEFORE_GROWTH
}
