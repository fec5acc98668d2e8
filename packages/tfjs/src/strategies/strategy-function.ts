/** The signature that all strategies share, and how each token gets its own coefficients. */
import type { Entries } from '@fourierft/core'
import { add, type Tensor, type Tensor2D, tensor2d } from '@tensorflow/tfjs-core'
import { leftProduct } from '../ops/matrix-products.js'
import type { TableCache } from '../table-cache.js'

export interface StrategyInput {
  /** `[T, d2]` */
  readonly x: Tensor2D
  /** Coefficients times `α/(d1·d2)`: `[n]`, or with `rows` `[A, n]`. */
  readonly c: Tensor
  /** For each token the row of `c`; −1 means no adapter. */
  readonly rows: ArrayLike<number> | undefined
  readonly entries: Entries
  readonly tables: TableCache
  /** `[T, d1]`: Δy is added to it. */
  readonly base?: Tensor2D | undefined
}

/** Returns `base + Δy` `[T, d1]`, or Δy without a base; differentiable by `base`, `x` and `c`. */
export type StrategyFunction = (input: StrategyInput) => Tensor2D

/** Adds the base to the result of a function that computes Δy. */
export function addingBase(branch: (input: StrategyInput) => Tensor2D): StrategyFunction {
  return (input) => (input.base === undefined ? branch(input) : add(input.base, branch(input)))
}

/** Returns the coefficients of each token, `[T, n]`; `[n]` if all tokens share them. */
export function coefficientsPerToken({ c, rows }: Pick<StrategyInput, 'c' | 'rows'>): Tensor {
  // A product with ones and zeros picks the coefficients of each token; its gradient adds up the tokens of each adapter.
  return rows === undefined ? c : leftProduct(oneHot(rows, c.shape[0]), c)
}

/** Computes `[T, A]`: 1 if token `t` uses row `a`, otherwise 0. */
export function oneHot(rows: ArrayLike<number>, adapters: number): Tensor2D {
  const values = new Float32Array(rows.length * adapters)
  for (let t = 0; t < rows.length; t++) {
    const adapter = rows[t]
    if (adapter >= 0) values[t * adapters + adapter] = 1
  }
  return tensor2d(values, [rows.length, adapters])
}
