/** The arrays that receive the gradients of the adapter's branch. */
import type { FloatArray } from '../adapter/layer.js'

/** `addBackward` adds to these arrays. */
export interface BranchGradients {
  /** `∂L/∂c`, `[n]` for each layer. */
  readonly coefficients: readonly FloatArray[]
  /** `∂L/∂x` through the branch, `[T, d2]`; not computed if absent. */
  readonly x?: FloatArray
}
