/** Computes `x · kernel + bias + Σ Δy` along the last dimension, for `Dense` layers, and for 1×1 convolutions at every pixel. */
import { add, reshape, type Tensor, type Tensor2D, Variable } from '@tensorflow/tfjs-core'
import { fourierLinear } from '../fourier-linear.js'
import { frozenProduct, product } from '../ops/matrix-products.js'
import { chooseStrategy } from '../strategies/choose-strategy.js'
import { hasNativeKernel, nativeLinear } from '../strategies/native.js'
import type { LinearSize } from '../strategies/strategy.js'
import { type AppliedWeights, type ApplyOptions, adapterOfEachToken, type KernelDelta } from './layer-kind.js'

/**
 * @param x `[..., in]`, float32
 * @param weights with a kernel `[in, out]`
 * @returns `[..., out]`
 */
export function adaptedLinear(
  x: Tensor,
  { kernel, bias, isFrozen }: AppliedWeights,
  deltas: readonly KernelDelta[],
  options: ApplyOptions,
): Tensor {
  const [inputs, outputs] = kernel.shape as [number, number]
  const flat = (x.rank === 2 ? x : reshape(x, [-1, inputs])) as Tensor2D
  const tokens = flat.shape[0]
  let y: Tensor | undefined
  for (const { spec, coefficients, rows: batchRows } of deltas) {
    const rows = batchRows && adapterOfEachToken(batchRows, tokens)
    const { shape, entries, scaling } = spec
    if (
      y === undefined &&
      isFrozen &&
      !isTrained(bias) &&
      isNative(options, { tokens, shape, n: entries.n })
    ) {
      const { tables } = options
      y = nativeLinear({ x: flat, kernel, bias, c: coefficients, entries, scaling, rows, tables })
    } else {
      y = fourierLinear(flat, coefficients, spec, { ...options, base: y ?? baseOutput(), rows })
    }
  }
  y ??= baseOutput()
  return x.rank === 2 ? y : reshape(y, [...x.shape.slice(0, -1), outputs])

  function baseOutput(): Tensor {
    const y = isFrozen ? frozenProduct(flat, kernel) : product(flat, kernel)
    return bias ? add(y, bias) : y
  }
}

/** Returns whether the bias is trained: users may do so in their own loop, even if the kernel is frozen. */
function isTrained(bias: Tensor | undefined): boolean {
  return bias instanceof Variable && bias.trainable
}

function isNative({ strategy }: ApplyOptions, size: LinearSize): boolean {
  return hasNativeKernel() && (strategy === 'auto' ? chooseStrategy(size) : strategy) === 'native'
}
