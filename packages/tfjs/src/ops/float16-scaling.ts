/**
 * The scaling of an adapter on backends that store numbers in float16. The factor `α/(d1·d2)` is 1.7·10⁻⁶ for `α = 1` at d = 768: far
 * below float16's smallest normal number, 6·10⁻⁵, and so is its product with the coefficients. These backends round even constants to
 * float16. The factor is therefore split into `m·2^e`: the mantissa multiplies the coefficients, and the powers of two are applied in
 * places where the numbers are neither small nor large.
 */
import type { Entries } from '@fourierft/core'
import { backend, env, getBackend, mul, type Tensor } from '@tensorflow/tfjs-core'
import { withGradient } from './with-gradient.js'

/**
 * Whether the current backend stores numbers in float16. In TensorFlow.js 4.22 only webgl may: on devices that cannot render to float32
 * textures, or with the flag `WEBGL_FORCE_F16_TEXTURES`.
 */
export function usesFloat16(): boolean {
  // `floatPrecision()` alone is not enough: in 4.22 it is 16 for webgl on devices that render to float32, too.
  return (
    getBackend() === 'webgl' &&
    !env().getBool('WEBGL_RENDER_FLOAT32_ENABLED') &&
    backend().floatPrecision() === 16
  )
}

/**
 * Whether `spectral` is exact on the current backend. Float16 holds whole numbers only up to 2048, indices included; the indices of a
 * transform of d features are below 2d.
 */
export function isSpectralExact({ shape: [d1, d2], n }: Pick<Entries, 'shape' | 'n'>): boolean {
  return !usesFloat16() || Math.max(2 * d1, 2 * d2, n) <= 2048
}

/** `factor = m · 2^-inner · 2^outer` */
interface SplitFactor {
  /** `1 ≤ |m| < 2`, or 0 */
  readonly mantissa: number
  /** `2^inner ≈ √d2`: sums over d2 features grow by about `√d2`. Dividing the coefficients by it keeps products in their range. */
  readonly inner: number
  readonly outer: number
}

function splitFactor(factor: number, d2: number): SplitFactor {
  const exponent = factor === 0 ? 0 : Math.floor(Math.log2(Math.abs(factor)))
  const inner = Math.round(Math.log2(d2) / 2)
  return { mantissa: factor / 2 ** exponent, inner, outer: exponent + inner }
}

/**
 * `factor · bilinear(x, c)`, for a function that is linear in both. Gradients, too, are scaled after they are summed.
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
    (gradient) => [timesPowerOfTwo(gradient, split.outer)],
  )
  return scaled(c, split, (c) => bilinear(features, c))
}

/** `factor · linear(c)`, for a linear function whose other operand consists of cosines and sines rather than activations. */
export function scaledLinear(c: Tensor, factor: number, linear: (c: Tensor) => Tensor): Tensor {
  return scaled(c, splitFactor(factor, 1), linear)
}

/** The gradient of the output of `linear` is passed through unscaled; the gradient of `c` takes the whole factor. */
function scaled(c: Tensor, { mantissa, inner, outer }: SplitFactor, linear: (c: Tensor) => Tensor): Tensor {
  const coefficients = withGradient(
    [c],
    () => ({ value: timesPowerOfTwo(mul(c, mantissa), -inner) }),
    (gradient) => [timesPowerOfTwo(mul(gradient, mantissa), outer - inner)],
  )
  const y = linear(coefficients)
  return withGradient(
    [y],
    () => ({ value: timesPowerOfTwo(y, outer) }),
    (gradient) => [gradient],
  )
}

/** Exact if the result is a normal number of the backend. */
function timesPowerOfTwo(x: Tensor, exponent: number): Tensor {
  // In steps, so that each power is a normal number of float16.
  const half = Math.trunc(exponent / 2)
  return Math.abs(exponent) > 14
    ? timesPowerOfTwo(timesPowerOfTwo(x, half), exponent - half)
    : mul(x, 2 ** exponent)
}
