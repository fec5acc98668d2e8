/**
 * Samples the standard normal distribution with uniform numbers and comparisons. It uses no logarithm or sine, so every engine gives the same
 * numbers. The distribution is exact up to the 53 bits of a double.
 *
 * @see C. F. F. Karney, "Sampling exactly from the normal distribution", ACM TOMS 42 (2016), algorithm N
 */
import { MersenneTwister } from '../entries/mersenne-twister.js'

/**
 * Returns a generator of standard normal numbers.
 *
 * @param seed taken modulo 2³²
 */
export function standardNormal(seed: number): () => number {
  const random = new MersenneTwister(seed)

  const uniform = (): number =>
    ((random.nextUint32() >>> 5) * 2 ** 26 + (random.nextUint32() >>> 6)) / 2 ** 53

  /**
   * Returns true with probability `exp(−x)`, `0 ≤ x ≤ 1` (von Neumann). A decreasing run `x > u₁ > u₂ > …` of uniform numbers has at least
   * m of them with probability `x^m/m!`, so their number is even with probability `1 − x + x²/2 − … = exp(−x)`.
   */
  const accept = (x: number): boolean => {
    let isEven = true
    for (let last = x, next = uniform(); next < last; last = next, next = uniform()) isEven = !isEven
    return isEven
  }

  /** Returns the integer part k with probability ∝ `exp(−k²/2) = exp(−k/2)·exp(−k(k−1)/2)`; undefined if k is rejected. */
  const integerPart = (): number | undefined => {
    let k = 0
    while (accept(0.5)) k++
    for (let i = k * (k - 1); i > 0; i--) if (!accept(0.5)) return undefined
    return k
  }

  return () => {
    for (;;) {
      const k = integerPart()
      if (k === undefined) continue
      const x = uniform()
      let isAccepted = true
      // exp(−x(2k+x)/2) in k + 1 factors, each with an exponent below 1.
      for (let i = 0; isAccepted && i <= k; i++) isAccepted = accept((x * (2 * k + x)) / (2 * k + 2))
      if (isAccepted) return random.nextUint32() >>> 31 ? -(k + x) : k + x
    }
  }
}
