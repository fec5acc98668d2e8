/**
 * `exp` and `log` with the same bits on every engine, which `Math.exp` and `Math.log` do not promise. They use
 * additions, subtractions, multiplications and divisions in a fixed order. Their errors stay below 2 ulp, and they
 * cover only the ranges that sampling needs.
 */

/** `ln 2` in two parts. The high part has 32 bits, so its product with an integer below 2²⁰ is exact. */
const LN2_HIGH = 0.6931471803691238
const LN2_LOW = 1.9082149292705877e-10

/** `2⁻ᵏ` for `k = 0 … 1022`, exact by halving. */
const HALVES = new Float64Array(1023)
for (let k = 0, power = 1; k < HALVES.length; k++, power /= 2) HALVES[k] = power

/** `1/k!` for `k = 0 … 13`. */
const INVERSE_FACTORIALS = new Float64Array(14)
for (let k = 0, factorial = 1; k < INVERSE_FACTORIALS.length; k++, factorial *= k) {
  INVERSE_FACTORIALS[k] = 1 / factorial
}

/** Returns `eˣ` for `−708 ≤ x ≤ 0`: `x = −k·ln 2 + r` with `|r| ≤ (ln 2)/2`, then the series of `eʳ` up to `r¹³`. */
export function exp(x: number): number {
  const k = Math.floor(0.5 - x / (LN2_HIGH + LN2_LOW))
  const r = x + k * LN2_HIGH + k * LN2_LOW
  let series = 0
  for (let i = INVERSE_FACTORIALS.length - 1; i >= 0; i--) {
    series = series * r + INVERSE_FACTORIALS[i]
  }
  return series * HALVES[k]
}

/**
 * Returns `ln x` for `2⁻¹⁰⁰⁰ ≤ x ≤ 1`: `x = 2⁻ᵏ·m` with `0.7 < m ≤ 1.4`, then the series of
 * `ln m = 2·artanh((m − 1)/(m + 1))`.
 */
export function log(x: number): number {
  let k = 0
  let m = x
  while (m <= 0.7) {
    m *= 2
    k++
  }
  const s = (m - 1) / (m + 1)
  const z = s * s
  let series = 0
  for (let i = 21; i >= 1; i -= 2) series = series * z + 1 / i
  return 2 * s * series - k * LN2_LOW - k * LN2_HIGH
}
