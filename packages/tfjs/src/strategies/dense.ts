/**
 * The `dense` strategy: ΔW is formed from the coefficients, then one matrix product. Best where the tokens are many and the layer is
 * small: its cost does not grow with `T · n`.
 */
import type { Entries } from '@fourierft/core'
import type { Tensor, Tensor2D } from '@tensorflow/tfjs-core'
import { product } from '../products.js'
import type { TableCache } from '../table-cache.js'
import { factoredKernel } from './factored.js'

/**
 * ΔWᵀ `[d2, d1]`: in the orientation of a TensorFlow.js kernel.
 *
 * @param c coefficients times `α/(d1·d2)`, `[n]`
 */
export function denseKernel(c: Tensor, entries: Entries, tables: TableCache): Tensor2D {
  return factoredKernel(c, entries, tables)
}

/**
 * @param x `[T, d2]`
 * @param c coefficients times `α/(d1·d2)`, `[n]`
 * @returns Δy `[T, d1]`
 */
export function denseForward(x: Tensor2D, c: Tensor, entries: Entries, tables: TableCache): Tensor2D {
  return product(x, denseKernel(c, entries, tables))
}
