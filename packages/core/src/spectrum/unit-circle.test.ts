import { describe, expect, test } from 'vitest'
import { unitCircle } from './unit-circle.js'

/** 1 in the oracle of this file: fixed-point numbers with 160 fractional bits, computed in integers. */
const ONE = 1n << 160n

/** `2π` with digits from the literature. */
const TWO_PI = (62831853071795864769252867665590057683943387987502116419498891846n * ONE) / 10n ** 64n

/** Returns `cos` and `sin` of `2π·m/denominator` by their power series, to 2⁻¹⁵⁰. */
function exactPoint(m: number, denominator: number): { cos: bigint; sin: bigint } {
  const angle = (TWO_PI * BigInt(m)) / BigInt(denominator)
  const sums = [0n, 0n, 0n, 0n]
  let term = ONE
  for (let k = 0n; term !== 0n; k++) {
    sums[Number(k % 4n)] = (sums[Number(k % 4n)] ?? 0n) + term
    term = (term * angle) / (ONE * (k + 1n))
  }
  const [a = 0n, b = 0n, c = 0n, d = 0n] = sums
  return { cos: a - c, sin: b - d }
}

/** Returns the distance of a double from a fixed-point number, in units in the last place of the double. */
function ulps(value: number, exact: bigint): number {
  if (value === 0)
    return exact === 0n || (exact < 1n << 12n && exact > -(1n << 12n)) ? 0 : Number.POSITIVE_INFINITY
  let ulp = 2 ** -52
  while (Math.abs(value) < ulp * 2 ** 52) ulp /= 2
  const difference = BigInt(value * 2 ** 120) * (ONE >> 120n) - exact
  return Math.abs(Number(difference) / 2 ** 160 / ulp)
}

describe('unitCircle', () => {
  const small = Array.from({ length: 40 }, (_, i) => i + 1)
  test.each([...small, 127, 768, 1024, 3072, 4093, 4096, 11008, 14336, 131072, 1048583])(
    'gives every point within 1 ulp for denominator %i',
    (denominator) => {
      const { cos, sin } = unitCircle(denominator)
      expect(cos).toHaveLength(denominator)
      expect(sin).toHaveLength(denominator)
      const stride = Math.ceil(denominator / 400)
      let worst = 0
      for (let m = 0; m < denominator; m += stride) {
        const exact = exactPoint(m, denominator)
        worst = Math.max(worst, ulps(cos[m], exact.cos), ulps(sin[m], exact.sin))
      }
      expect(worst).toBeLessThan(1)
    },
  )

  test('gives quarter turns exactly, without negative zeros', () => {
    const { cos, sin } = unitCircle(4)
    expect(cos).toEqual(Float64Array.of(1, 0, -1, 0))
    expect(sin).toEqual(Float64Array.of(0, 1, 0, -1))
  })

  test('gives an angle the same bits for every denominator', () => {
    const coarse = unitCircle(96)
    const fine = unitCircle(96 * 35)
    for (let m = 0; m < 96; m++) {
      expect(fine.cos[35 * m]).toBe(coarse.cos[m])
      expect(fine.sin[35 * m]).toBe(coarse.sin[m])
    }
  })

  test('keeps the symmetries of the circle, bit for bit', () => {
    const d = 1000
    const { cos, sin } = unitCircle(d)
    for (let m = 1; m < d; m++) {
      expect(cos[d - m]).toBe(cos[m])
      expect(sin[d - m]).toBe(0 - sin[m])
      expect(cos[(m + d / 4) % d]).toBe(0 - sin[m])
    }
  })

  test.each([0, -3, 1.5, Number.NaN, 2 ** 26 + 1])('rejects denominator %s', (denominator) => {
    expect(() => unitCircle(denominator)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }))
  })
})
