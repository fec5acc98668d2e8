/**
 * Cosines and sines of rational angles `2π·m/denominator`, with an error below 1 ulp (1.5 ulp for denominators
 * above 2²²) and the same bits on every engine; `Math.sin` promises neither. Angles are reduced exactly in integers;
 * the rest is additions, subtractions, multiplications and divisions in a fixed order.
 */
import { FourierFTError } from '../errors.js'

export interface UnitCircle {
  /** `cos(2π·m/denominator)` for `m = 0 … denominator − 1`. */
  readonly cos: Float64Array
  /** `sin(2π·m/denominator)` for `m = 0 … denominator − 1`. */
  readonly sin: Float64Array
}

/** Two tables of this length take 1 GiB; the layers of models are far smaller. */
const LARGEST_DENOMINATOR = 2 ** 26

/** An angle is split into whole steps of 2⁻²¹ of a turn and a remainder. */
const STEPS = 2 ** 21

/**
 * `2π = TWO_PI_HIGH + TWO_PI_LOW` to 2⁻⁸⁵. The high part has 34 bits, so its product with at most 2¹⁸ steps is
 * exact.
 */
const TWO_PI_HIGH = 6.2831853069365025
const TWO_PI_LOW = 2.430840202602477e-10
const TWO_PI = 6.283185307179586

/** `−1/3!, 1/5!, … , 1/17!`: the sine's series after its first term. */
const SINE_SERIES = [
  -1 / 6,
  1 / 120,
  -1 / 5040,
  1 / 362880,
  -1 / 39916800,
  1 / 6227020800,
  -1 / 1307674368000,
  1 / 355687428096000,
]

/** `1/4!, −1/6!, … , −1/18!`: the cosine's series after its first two terms. */
const COSINE_SERIES = [
  1 / 24,
  -1 / 720,
  1 / 40320,
  -1 / 3628800,
  1 / 479001600,
  -1 / 87178291200,
  1 / 20922789888000,
  -1 / 6402373705728000,
]

/**
 * Returns the points of the unit circle at all multiples of `1/denominator` of a turn.
 *
 * @throws {FourierFTError} `INVALID_OPTION` unless the denominator is an integer in `1 … 2²⁶`
 */
export function unitCircle(denominator: number): UnitCircle {
  if (!Number.isInteger(denominator) || denominator < 1 || denominator > LARGEST_DENOMINATOR) {
    throw new FourierFTError(
      'INVALID_OPTION',
      `denominator: expected an integer in 1 … 2^26; received ${denominator}`,
      { option: 'denominator', expected: 'an integer in 1 … 2^26', received: denominator },
    )
  }
  const cos = new Float64Array(denominator)
  const sin = new Float64Array(denominator)
  // Angles count quarters of 1/denominator of a turn, so that half, quarter and eighth turns are integers.
  const full = 4 * denominator
  const half = 2 * denominator
  const quarter = denominator
  for (let m = 0; m < denominator; m++) {
    let a = 4 * m
    const isBelow = a > half
    if (isBelow) a = full - a
    const isLeft = a > half - a
    if (isLeft) a = half - a
    const isSteep = a > quarter - a
    if (isSteep) a = quarter - a

    const scaled = a * STEPS
    const steps = Math.floor(scaled / full)
    const rest = (scaled - steps * full) / full
    const high = TWO_PI_HIGH * steps
    const low = TWO_PI_LOW * steps + TWO_PI * rest
    const angle = (high + low) / STEPS
    const tail = (high - (high + low) + low) / STEPS

    const x = isSteep ? sine(angle, tail) : cosine(angle, tail)
    // On the diagonal both are the cosine, so that sin θ = cos(π/2 − θ) holds bit for bit.
    const y = isSteep || a === quarter - a ? cosine(angle, tail) : sine(angle, tail)
    cos[m] = isLeft ? -x : x
    sin[m] = isBelow ? -y : y
  }
  return { cos, sin }
}

/** Returns `sin(angle + tail)` on `[0, π/4]`; `tail` is the rounding error of the angle. */
function sine(angle: number, tail: number): number {
  const z = angle * angle
  return angle + (angle * z * polynomial(SINE_SERIES, z) + tail * (1 - z / 2))
}

/** Returns `cos(angle + tail)` on `[0, π/4]`; the rounding error of `1 − z/2` is added back. */
function cosine(angle: number, tail: number): number {
  const z = angle * angle
  const leading = 1 - z / 2
  return leading + (1 - leading - z / 2 + (z * z * polynomial(COSINE_SERIES, z) - angle * tail))
}

/** Returns `c₀ + c₁·z + c₂·z² + …` by Horner's rule. */
function polynomial(coefficients: readonly number[], z: number): number {
  let sum = 0
  for (let i = coefficients.length - 1; i >= 0; i--) sum = sum * z + coefficients[i]
  return sum
}
