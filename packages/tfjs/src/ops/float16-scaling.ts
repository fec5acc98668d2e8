/**
 * The scaling of an adapter on backends that store numbers in float16. The factor `α/(d1·d2)` is 1.7·10⁻⁶ for `α = 1` at d = 768: far
 * below float16's smallest normal number, 6·10⁻⁵. So is its product with the coefficients. These backends round even constants to
 * float16. The factor is therefore split into `m·2^e`: the mantissa multiplies the coefficients, and the power of two is
 * applied in steps, at points where the values are neither small nor large.
 */
import type { Entries } from '@fourierft/core'
import { backend, env, getBackend, mul, type Tensor } from '@tensorflow/tfjs-core'
import { withGradient } from './with-gradient.js'

/**
 * Returns whether the current backend stores numbers in float16. In TensorFlow.js 4.22 only `webgl` can do so: on devices that cannot
 * render to float32 textures, or with the flag `WEBGL_FORCE_F16_TEXTURES`.
 */
export function usesFloat16(): boolean {
  // `floatPrecision()` is not enough: in 4.22 it is 16 for `webgl` also on devices that render to float32.
  return (
    getBackend() === 'webgl' &&
    !env().getBool('WEBGL_RENDER_FLOAT32_ENABLED') &&
    backend().floatPrecision() === 16
  )
}

/**
 * Returns whether `spectral` is exact on the current backend. Float16 is exact for whole numbers only up to 2048, also for indices; the
 * indices of a transform of d features are below 2d.
 */
export function isSpectralExact({ shape: [d1, d2], n }: Pick<Entries, 'shape' | 'n'>): boolean {
  return !usesFloat16() || Math.max(2 * d1, 2 * d2, n) <= 2048
}

/** `factor = mantissa · 2^exponentBefore · 2^exponentAfter` */
interface SplitFactor {
  /** `1 ≤ |m| < 2`, or 0 */
  readonly mantissa: number
  /** Applied to the coefficients: `2^exponentBefore ≈ 1/√d2`, because sums over d2 features grow by about `√d2`. */
  readonly exponentBefore: number
  /** Applied to the sums. */
  readonly exponentAfter: number
}

function splitFactor(factor: number, d2: number): SplitFactor {
  const exponent = factor === 0 ? 0 : Math.floor(Math.log2(Math.abs(factor)))
  const halfLog = Math.round(Math.log2(d2) / 2)
  return { mantissa: factor / 2 ** exponent, exponentBefore: -halfLog, exponentAfter: exponent + halfLog }
}

/**
 * Computes `factor · bilinear(x, c)`, for a function that is linear in both. Gradients are also scaled after they are summed.
 *
 * @param d2 features of `x`
 */
export function scaledBilinear(
  x: Tensor,
  c: Tensor,
  factor: number,
  d2: number,
  bilinear: (x: Tensor, c: Tensor) => Tensor,
): Tensor {
  const split = splitFactor(factor, d2)
  const features = withGradient(
    [x],
    () => ({ value: x.clone() }),
    (gradient) => [timesPowerOfTwo(gradient, split.exponentAfter)],
  )
  return scaled(c, split, (c) => bilinear(features, c))
}

/** Computes `factor · linear(c)`, for a linear function whose other operand consists of cosines and sines rather than activations. */
export function scaledLinear(c: Tensor, factor: number, linear: (c: Tensor) => Tensor): Tensor {
  return scaled(c, splitFactor(factor, 1), linear)
}

/** Scales `c`, then the output. The gradient of the output is not scaled; the gradient of `c` is scaled by the whole factor. */
function scaled(
  c: Tensor,
  { mantissa, exponentBefore, exponentAfter }: SplitFactor,
  linear: (c: Tensor) => Tensor,
): Tensor {
  const coefficients = withGradient(
    [c],
    () => ({ value: timesPowerOfTwo(mul(c, mantissa), exponentBefore) }),
    (gradient) => [timesPowerOfTwo(mul(gradient, mantissa), exponentBefore + exponentAfter)],
  )
  const y = linear(coefficients)
  return withGradient(
    [y],
    () => ({ value: timesPowerOfTwo(y, exponentAfter) }),
    (gradient) => [gradient],
  )
}

/** Computes `x · 2^exponent`, exactly if the result is a normal number of the backend. */
function timesPowerOfTwo(x: Tensor, exponent: number): Tensor {
  // In steps, so that each power is a normal number of float16.
  const half = Math.trunc(exponent / 2)
  return Math.abs(exponent) > 14
    ? timesPowerOfTwo(timesPowerOfTwo(x, half), exponent - half)
    : mul(x, 2 ** exponent)
}
