/**
 * The interface of the kinds of layers: the matrix that a layer multiplies by, and how ΔW is applied to it. `AdaptedLayer` decides which
 * ΔW are active.
 */
import type { Shape } from '@fourierft/core'
import { mul, type Tensor } from '@tensorflow/tfjs-core'
import type { LayerVariable } from '@tensorflow/tfjs-layers'
import type { LayerSpec } from '../fourier-linear.js'
import { scaledLinear, usesFloat16 } from '../ops/float16-scaling.js'
import type { TfjsStrategy } from '../strategies/strategy.js'
import type { TableCache } from '../table-cache.js'

export interface LayerKind {
  /** `[out, in]` of the matrix `W'` in `y = W' x`. The kernel contains its transpose, row-major, in any shape. */
  readonly shape: Shape
  readonly kernel: LayerVariable
  readonly bias: LayerVariable | null
  /** Whether PEFT would call it a linear layer: `all-linear` includes it, and `modulesToSave` can name it. */
  readonly isLinear: boolean
  /** Whether each row of a batch can have its own adapter. */
  readonly allowsAdapterPerRow: boolean
  /** Computes the layer's output with these weights and the ΔW of its kernel. Called inside `tidy`. */
  apply(x: Tensor, weights: AppliedWeights, deltas: readonly KernelDelta[], options: ApplyOptions): Tensor
}

export interface AppliedWeights {
  readonly kernel: Tensor
  readonly bias: Tensor | undefined
  /** Whether the kernel belongs to the base model and is not trained. */
  readonly isFrozen: boolean
}

/** ΔW of the active adapters that share their entries. */
export interface KernelDelta {
  /** For several adapters the scaling is 1, and `coefficients` include the scaling of each adapter. */
  readonly spec: LayerSpec
  /** `[n]`, or with `rows` `[A, n]` */
  readonly coefficients: Tensor
  /** For each row of the batch the row of `coefficients`; −1 means no adapter. */
  readonly rows: Int32Array | undefined
}

export interface ApplyOptions {
  readonly strategy: TfjsStrategy | 'auto'
  readonly tables: TableCache
}

/** Calls `linear`, which is linear in its argument, with the coefficients times `α/(d1·d2)`, as the strategies expect them. */
export function applyNormalised({ spec, coefficients }: KernelDelta, linear: (c: Tensor) => Tensor): Tensor {
  const factor = spec.scaling / (spec.shape[0] * spec.shape[1])
  return usesFloat16() ? scaledLinear(coefficients, factor, linear) : linear(mul(coefficients, factor))
}

/** Repeats the adapter index of each row of the batch for the tokens of the row. */
export function adapterOfEachToken(rows: Int32Array, tokens: number): Int32Array {
  const tokensPerRow = tokens / rows.length
  return Int32Array.from({ length: tokens }, (_, t) => rows[Math.floor(t / tokensPerRow)])
}
