/**
 * What the kinds of layers that can have adapters tell about themselves: which matrix they multiply by, and how a change of it is applied.
 * Which adapters are active is the business of `AdaptedLayer`.
 */
import type { Shape } from '@fourierft/core'
import { mul, type Tensor } from '@tensorflow/tfjs-core'
import type { LayerVariable } from '@tensorflow/tfjs-layers'
import type { LayerSpec } from '../fourier-linear.js'
import { scaledLinear, usesFloat16 } from '../ops/float16-scaling.js'
import type { TfjsStrategy } from '../strategies/strategy.js'
import type { TableCache } from '../table-cache.js'

export interface LayerKind {
  /** `[out, in]` of the matrix `W'` in `y = W' x`. The kernel holds its transpose, row by row, in whatever shape. */
  readonly shape: Shape
  readonly kernel: LayerVariable
  readonly bias: LayerVariable | null
  /** What PEFT calls a linear layer: `all-linear` means it, and `modulesToSave` can hold it. */
  readonly isLinear: boolean
  /** Whether each row of a batch can have its own adapter. */
  readonly allowsAdapterPerRow: boolean
  /** The layer's output with these weights and these changes of its kernel. Called inside of `tidy`. */
  apply(x: Tensor, weights: AppliedWeights, changes: readonly KernelChange[], options: ApplyOptions): Tensor
}

export interface AppliedWeights {
  readonly kernel: Tensor
  readonly bias: Tensor | undefined
  /** Whether the kernel is the base model's, which is not trained. */
  readonly isFrozen: boolean
}

/** ΔW of the active adapters that share their entries. */
export interface KernelChange {
  /** Of several adapters the scaling is 1: each one's own is in the coefficients. */
  readonly spec: LayerSpec
  /** `[n]`, or with `rows` `[A, n]` */
  readonly coefficients: Tensor
  /** For each row of the batch the row of `coefficients`, −1 for none. */
  readonly rows: Int32Array | undefined
}

export interface ApplyOptions {
  readonly strategy: TfjsStrategy | 'auto'
  readonly tables: TableCache
}

/** What `make`, linear in its coefficients, gives for a change: for its coefficients times `1/(d1·d2)`, as the strategies take them. */
export function applyNormalised({ spec, coefficients }: KernelChange, make: (c: Tensor) => Tensor): Tensor {
  const factor = spec.scaling / (spec.shape[0] * spec.shape[1])
  return usesFloat16() ? scaledLinear(coefficients, factor, make) : make(mul(coefficients, factor))
}

/** From one index for each row of the batch to one for each token. */
export function adapterOfEachToken(rows: Int32Array, tokens: number): Int32Array {
  const each = tokens / rows.length
  return Int32Array.from({ length: tokens }, (_, t) => rows[Math.floor(t / each)])
}
