/** `x · kernel + bias + Σ Δy` along the last dimension: what `Dense` layers compute, and 1×1 convolutions at every pixel. */
import { add, reshape, type Tensor } from '@tensorflow/tfjs-core'
import { fourierLinear } from '../fourier-linear.js'
import { frozenProduct, product } from '../products.js'
import { type AppliedWeights, type ApplyOptions, type Change, rowsOfTokens } from './layer-kind.js'

/**
 * @param x `[..., in]`, float32
 * @param weights its kernel `[in, out]`
 * @returns `[..., out]`
 */
export function linear(
  x: Tensor,
  { kernel, bias, isFrozen }: AppliedWeights,
  changes: readonly Change[],
  options: ApplyOptions,
): Tensor {
  const [inputs, outputs] = kernel.shape as [number, number]
  const flat = reshape(x, [-1, inputs])
  const tokens = flat.shape[0] as number
  let y: Tensor = isFrozen ? frozenProduct(flat, kernel) : product(flat, kernel)
  if (bias) y = add(y, bias)
  for (const { spec, coefficients, rows } of changes) {
    y = fourierLinear(flat, coefficients, spec, {
      ...options,
      base: y,
      rows: rows && rowsOfTokens(rows, tokens),
    })
  }
  return reshape(y, [...x.shape.slice(0, -1), outputs])
}
