/**
 * The `native` strategy: the compiled kernel of `@fourierft/native` as an operator of the TensorFlow that tfjs-node uses. The operator
 * adds Δy to the frozen layer's output in place, and another operator computes its gradient. It runs on TensorFlow's CPU only, because it
 * cannot read the memory of a GPU.
 */
import {
  _FusedMatMul,
  backend,
  engine,
  fill,
  getBackend,
  matMul,
  type Tensor,
  type Tensor2D,
  tensor1d,
  zeros,
} from '@tensorflow/tfjs-core'
import { platform } from '#platform'
import { withGradient } from '../ops/with-gradient.js'
import type { NativeKernel } from '../platform/platform.js'
import type { StrategyInput } from './strategy-function.js'

/** The parts of tfjs-node's backend that are not in TensorFlow.js's interface. */
interface NodeBackend {
  readonly isUsingGpuDevice: boolean
  readonly binding: { readonly TF_ATTR_INT: number; readonly TF_ATTR_BOOL: number }
  executeMultipleOutputs(name: string, attributes: unknown[], inputs: Tensor[], outputs: number): Tensor[]
}

let opened: { readonly kernel: NativeKernel | undefined } | undefined

/** Returns the native kernel, if the current backend is tfjs-node's on a CPU and `@fourierft/native` is installed. */
function nativeKernel(): NativeKernel | undefined {
  if (getBackend() !== 'tensorflow' || nodeBackend().isUsingGpuDevice) return undefined
  opened ??= { kernel: platform.openNativeKernel() }
  return opened.kernel
}

/** Returns whether the strategy `native` is available. */
export function hasNativeKernel(): boolean {
  return nativeKernel() !== undefined
}

/** Computes `base + Δy`, or Δy without a base. */
export function native({ x, c, rows, entries, tables, base }: StrategyInput): Tensor2D {
  const [d1, d2] = entries.shape
  const start = base ?? zeros([x.shape[0], d1])
  // The coefficients are already divided by d1·d2; this scaling cancels the native kernel's own division.
  const run = operators({ entries, c, scaling: d1 * d2, rows, tables })
  return withGradient(
    [start, x, c],
    () => ({ value: run.forward(start, x, c, base === undefined), saved: [x, c] }),
    (gradient, saved) => {
      const [x, c] = saved as [Tensor, Tensor]
      const [gradX, gradC] = run.backward(tensor1d([]), x, gradient, c, false)
      return [gradient, gradX, gradC]
    },
  ) as Tensor2D
}

/** A frozen linear layer and one change of its kernel. */
export interface NativeLinearInput extends Omit<StrategyInput, 'base'> {
  /** Coefficients that are not scaled: `[n]`, or with `rows` `[A, n]`. */
  readonly c: Tensor
  /** `α`, the same for all adapters. */
  readonly scaling: number
  /** The layer's kernel `[d2, d1]`, not differentiated. */
  readonly kernel: Tensor
  /** `[d1]`, not differentiated */
  readonly bias: Tensor | undefined
}

/**
 * Computes `x · kernel + bias + Δy`, differentiable by `x` and `c`. Both passes add the branch to the product in place, without extra
 * memory.
 */
export function nativeLinear(input: NativeLinearInput): Tensor2D {
  const { x, c, kernel, bias } = input
  const run = operators(input)
  return withGradient(
    [x, c],
    () => ({ value: run.forward(affine(x, kernel, bias), x, c, true), saved: [x, c, kernel] }),
    (gradient, saved) => {
      const [x, c, kernel] = saved as [Tensor, Tensor, Tensor]
      return run.backward(matMul(gradient, kernel, false, true), x, gradient, c, true)
    },
  ) as Tensor2D
}

/** Computes `x · kernel + bias` with the operator of `tf.fused.matMul`, without its preparations for gradients. */
function affine(x: Tensor, kernel: Tensor, bias: Tensor | undefined): Tensor {
  if (bias === undefined) return matMul(x, kernel)
  const attributes = { transposeA: false, transposeB: false, activation: 'linear' }
  return engine().runKernel(_FusedMatMul, { a: x, b: kernel, bias }, attributes)
}

/**
 * Returns functions that run the two operators for one layer. With `isInPlace` the result reuses the buffer of `base`: no other tensor may
 * share that buffer, and `base` must not be read afterwards.
 */
function operators({
  entries,
  c,
  scaling,
  rows,
  tables,
}: Pick<NativeLinearInput, 'entries' | 'c' | 'scaling' | 'rows' | 'tables'>) {
  const adapters = c.size / entries.n
  const plan = (nativeKernel() as NativeKernel).planOf({ shape: entries.shape, entries })
  const run = (
    name: string,
    base: Tensor,
    inputs: Tensor[],
    c: Tensor,
    isInPlace: boolean,
    outputs: number,
  ) => {
    const { binding } = nodeBackend()
    const attributes = [
      { name: 'plan', type: binding.TF_ATTR_INT, value: plan },
      { name: 'in_place', type: binding.TF_ATTR_BOOL, value: isInPlace },
    ]
    const scalings =
      adapters === 1
        ? tables.table(entries, `native/scaling/${scaling}`, () => tensor1d([scaling]))
        : fill([adapters], scaling)
    const rowsTensor =
      rows === undefined
        ? tables.table(entries, 'native/no-rows', () => tensor1d([], 'int32'))
        : tensor1d(Int32Array.from(rows), 'int32')
    const tensors = [base, ...inputs, c, scalings, rowsTensor]
    return nodeBackend().executeMultipleOutputs(name, attributes, tensors, outputs)
  }
  return {
    forward(base: Tensor, x: Tensor, c: Tensor, isInPlace: boolean): Tensor {
      return run('FourierFT', base, [x], c, isInPlace, 1)[0]
    },
    /** Returns `base + ∂x` (only ∂x if the base is empty) and ∂c. */
    backward(base: Tensor, x: Tensor, gradY: Tensor, c: Tensor, isInPlace: boolean): [Tensor, Tensor] {
      return run('FourierFTGrad', base, [x, gradY], c, isInPlace, 2) as [Tensor, Tensor]
    },
  }
}

function nodeBackend(): NodeBackend {
  return backend() as unknown as NodeBackend
}
