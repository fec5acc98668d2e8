/**
 * The `native` strategy: the compiled kernel of `@fourierft/native` as an operator of the TensorFlow that tfjs-node runs on. It adds to the
 * frozen layer's output as it goes, and its gradient is one operator too. For TensorFlow's CPU: on a GPU the tensors lie elsewhere.
 */

import {
  backend,
  fill,
  getBackend,
  reshape,
  type Tensor,
  type Tensor2D,
  tensor1d,
  zeros,
} from '@tensorflow/tfjs-core'
import { openNativeKernel } from '#native-kernel'
import type { NativeKernel } from '../native-kernel/kernel.js'
import { withGradient } from '../with-gradient.js'
import type { BranchInput } from './branch.js'

/** What tfjs-node's backend offers beyond TensorFlow.js's interface. */
interface NodeBackend {
  readonly isUsingGpuDevice: boolean
  readonly binding: { readonly TF_ATTR_INT: number }
  executeMultipleOutputs(name: string, attributes: unknown[], inputs: Tensor[], outputs: number): Tensor[]
}

let opened: { readonly kernel: NativeKernel | undefined } | undefined

/** The kernel, where the current backend is tfjs-node's on a CPU and `@fourierft/native` is there. */
function nativeKernel(): NativeKernel | undefined {
  if (getBackend() !== 'tensorflow' || nodeBackend().isUsingGpuDevice) return undefined
  opened ??= { kernel: openNativeKernel() }
  return opened.kernel
}

/** Whether `native` can be chosen. */
export function hasNativeKernel(): boolean {
  return nativeKernel() !== undefined
}

/** `base + Δy`, or Δy where there is no base. */
export function native({ x, c, rows, entries, tables, base }: BranchInput): Tensor2D {
  const [d1, d2] = entries.shape
  const { n } = entries
  const adapters = c.size / n
  // The kernel divides by d1·d2, which the coefficients have in them already.
  const area = d1 * d2
  const kernel = nativeKernel() as NativeKernel
  const plan = kernel.planOf({ shape: entries.shape, entries })
  const attributes = [{ name: 'plan', type: nodeBackend().binding.TF_ATTR_INT, value: plan }]
  const constants = () => ({
    scalings:
      adapters === 1 ? tables.table(entries, 'native/area', () => tensor1d([area])) : fill([adapters], area),
    choice:
      rows === undefined
        ? tables.table(entries, 'native/all', () => tensor1d([], 'int32'))
        : tensor1d(Int32Array.from(rows), 'int32'),
  })
  const start = base ?? zeros([x.shape[0], d1])
  return withGradient(
    [start, x, c],
    () => {
      const { scalings, choice } = constants()
      const matrix = reshape(c, [adapters, n])
      const inputs = [start, x, matrix, scalings, choice]
      const [value] = nodeBackend().executeMultipleOutputs('FourierFT', attributes, inputs, 1)
      return { value: value as Tensor, saved: [x, c] }
    },
    (gradient, saved) => {
      const [x, c] = saved as [Tensor, Tensor]
      const { scalings, choice } = constants()
      const inputs = [x, gradient, reshape(c, [adapters, n]), scalings, choice]
      const [gradC, gradX] = nodeBackend().executeMultipleOutputs('FourierFTGrad', attributes, inputs, 2)
      return [gradient, gradX as Tensor, reshape(gradC as Tensor, c.shape)]
    },
  ) as Tensor2D
}

function nodeBackend(): NodeBackend {
  return backend() as unknown as NodeBackend
}
