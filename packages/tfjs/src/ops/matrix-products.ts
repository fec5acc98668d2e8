/**
 * Matrix products with gradients that suit the wasm backend. The gradients of TensorFlow.js's `matMul` are products with transposed
 * operands, which wasm computes more than ten times slower than plain ones. For more than a few rows it is faster to transpose first.
 */
import { getBackend, matMul, type Tensor, type Tensor2D, transpose } from '@tensorflow/tfjs-core'
import { withGradient } from './with-gradient.js'

/**
 * Computes `x · matrix` for a constant matrix that is available in both orientations.
 *
 * @param matrix `[a, b]`, called in the forward pass
 * @param transposed `[b, a]`, called in the backward pass
 */
export function constantProduct(x: Tensor, matrix: () => Tensor, transposed: () => Tensor): Tensor2D {
  return withGradient(
    [x],
    () => ({ value: matMul(x, matrix()) }),
    (gradient) => [matMul(gradient, transposed())],
  ) as Tensor2D
}

/** Computes `left · x` for a constant `left`. */
export function leftProduct(left: Tensor2D, x: Tensor): Tensor2D {
  return withGradient(
    [x],
    () => ({ value: matMul(left, x), saved: [left] }),
    (gradient, [left]) => [transposedTimes(left, gradient)],
  ) as Tensor2D
}

/** Computes `x · kernel` for a frozen `kernel`, with a gradient for `x` only. */
export function frozenProduct(x: Tensor, kernel: Tensor): Tensor2D {
  return withGradient(
    [x],
    () => ({ value: matMul(x, kernel), saved: [kernel] }),
    (gradient, [kernel]) => [timesTransposed(gradient, kernel)],
  ) as Tensor2D
}

/** Computes `x · kernel`, with gradients for both. */
export function product(x: Tensor, kernel: Tensor): Tensor2D {
  return withGradient(
    [x, kernel],
    () => ({ value: matMul(x, kernel), saved: [x, kernel] }),
    (gradient, [x, kernel]) => [timesTransposed(gradient, kernel), transposedTimes(x, gradient)],
  ) as Tensor2D
}

/** With at least this many rows, wasm is faster if the matrix is transposed first. */
const MIN_ROWS_TO_TRANSPOSE = 8

/** Computes `a · bᵀ`. */
function timesTransposed(a: Tensor, b: Tensor): Tensor {
  const rows = a.shape[0]
  return getBackend() === 'wasm' && rows >= MIN_ROWS_TO_TRANSPOSE
    ? matMul(a, transpose(b))
    : matMul(a, b, false, true)
}

/** Computes `aᵀ · b`. */
export function transposedTimes(a: Tensor, b: Tensor): Tensor {
  return getBackend() === 'wasm' ? matMul(transpose(a), b) : matMul(a, b, true, false)
}
