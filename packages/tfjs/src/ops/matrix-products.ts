/**
 * Matrix products with gradients that suit the wasm backend. TensorFlow.js differentiates `matMul` by products with transposed operands,
 * which wasm computes more than ten times slower than plain ones; for more than a few rows it pays to transpose first.
 */
import { getBackend, matMul, type Tensor, type Tensor2D, transpose } from '@tensorflow/tfjs-core'
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
    (gradient, [left]) => [transposedTimes(left, gradient)],
  ) as Tensor2D
}

/** `x · kernel` for a frozen `kernel`: differentiated by `x` alone. */
export function frozenProduct(x: Tensor, kernel: Tensor): Tensor2D {
  return withGradient(
    [x],
    () => ({ value: matMul(x, kernel), saved: [kernel] }),
    (gradient, [kernel]) => [timesTransposed(gradient, kernel)],
  ) as Tensor2D
}

/** `x · kernel`, differentiated by both. */
export function product(x: Tensor, kernel: Tensor): Tensor2D {
  return withGradient(
    [x, kernel],
    () => ({ value: matMul(x, kernel), saved: [x, kernel] }),
    (gradient, [x, kernel]) => [timesTransposed(gradient, kernel), transposedTimes(x, gradient)],
  ) as Tensor2D
}

/** From this many rows on, transposing a matrix costs wasm less than multiplying by it as it lies. */
const ROWS_WORTH_TRANSPOSING = 8

/** `a · bᵀ` */
function timesTransposed(a: Tensor, b: Tensor): Tensor {
  const rows = a.shape[0]
  return getBackend() === 'wasm' && rows >= ROWS_WORTH_TRANSPOSING
    ? matMul(a, transpose(b))
    : matMul(a, b, false, true)
}

/** `aᵀ · b` */
export function transposedTimes(a: Tensor, b: Tensor): Tensor {
  return getBackend() === 'wasm' ? matMul(transpose(a), b) : matMul(a, b, true, false)
}
