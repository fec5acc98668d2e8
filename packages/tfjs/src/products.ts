/**
 * Matrix products with gradients that multiply plain matrices only. TensorFlow.js differentiates `matMul` by products with transposed
 * operands, which its wasm backend computes 10 to 25 times slower than plain ones; an explicit transposition costs next to nothing.
 */
import { matMul, type Tensor, type Tensor2D, transpose } from '@tensorflow/tfjs-core'
import { withGradient } from './with-gradient.js'

/**
 * `x · matrix` for a constant matrix that is at hand in both orientations.
 *
 * @param matrix `[a, b]`, asked for in the forward pass
 * @param transposed `[b, a]`, asked for in the backward pass if there is one
 */
export function constantProduct(x: Tensor, matrix: () => Tensor, transposed: () => Tensor): Tensor2D {
  return withGradient(
    [x],
    () => ({ value: matMul(x, matrix()) }),
    (gradient) => [matMul(gradient, transposed())],
  ) as Tensor2D
}

/** `left · x` for a constant `left`. */
export function leftProduct(left: Tensor2D, x: Tensor): Tensor2D {
  return withGradient(
    [x],
    () => ({ value: matMul(left, x), saved: [left] }),
    (gradient, [left]) => [matMul(transpose(left as Tensor), gradient)],
  ) as Tensor2D
}

/** `x · kernel` for a frozen `kernel`: differentiated by `x` alone. */
export function frozenProduct(x: Tensor, kernel: Tensor): Tensor2D {
  return withGradient(
    [x],
    () => ({ value: matMul(x, kernel), saved: [kernel] }),
    (gradient, [kernel]) => [matMul(gradient, transpose(kernel as Tensor))],
  ) as Tensor2D
}

/** `x · kernel`, differentiated by both. */
export function product(x: Tensor, kernel: Tensor): Tensor2D {
  return withGradient(
    [x, kernel],
    () => ({ value: matMul(x, kernel), saved: [x, kernel] }),
    (gradient, [x, kernel]) => [
      matMul(gradient, transpose(kernel as Tensor)),
      matMul(transpose(x as Tensor), gradient),
    ],
  ) as Tensor2D
}
