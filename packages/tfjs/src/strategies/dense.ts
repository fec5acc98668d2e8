/** The `dense` strategy: computes ΔW from the coefficients, then multiplies `x` by it. Fastest for many tokens and small layers. */
import type { Entries } from '@fourierft/core'
import { add, mul, reshape, slice, type Tensor, type Tensor2D } from '@tensorflow/tfjs-core'
import { product } from '../ops/matrix-products.js'
import type { TableCache } from '../table-cache.js'
import { factoredKernel } from './factored.js'
import { javaScriptKernel, keepsTensorsInJavaScript } from './javascript-memory.js'
import { oneHot, type StrategyInput } from './strategy-function.js'

export function dense({ x, c, rows, entries, tables }: StrategyInput): Tensor2D {
  if (rows === undefined) return product(x, denseKernel(c, entries, tables))
  // Multiplies all tokens by ΔW of each adapter, with the tokens of other adapters set to zero.
  const [adapters, n] = c.shape as [number, number]
  const chosen = oneHot(rows, adapters)
  const parts = Array.from({ length: adapters }, (_, a) => {
    const tokensOfAdapter = mul(x, slice(chosen, [0, a], [-1, 1]))
    return product(tokensOfAdapter, denseKernel(reshape(slice(c, [a, 0], [1, n]), [n]), entries, tables))
  })
  return parts.reduce((total, part) => add(total, part))
}

/**
 * Computes ΔWᵀ `[d2, d1]`, in the layout of a TensorFlow.js kernel.
 *
 * @param c coefficients times `α/(d1·d2)`, `[n]`
 */
export function denseKernel(c: Tensor, entries: Entries, tables: TableCache): Tensor2D {
  return keepsTensorsInJavaScript() ? javaScriptKernel(c, entries) : factoredKernel(c, entries, tables)
}
