import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { exp, log } from './exponential.js'

/** The errors of `exp` and `log` are below 2 ulp, and the engine's functions may be wrong by 1 ulp. */
const LIMIT = 3 * 2 ** -52

describe('exp', () => {
  test('is exact at 0', () => expect(exp(0)).toBe(1))

  test('agrees with Math.exp within the errors of both', () => {
    fc.assert(
      fc.property(fc.double({ min: -708, max: 0, noNaN: true }), (x) => {
        expect(Math.abs(exp(x) - Math.exp(x))).toBeLessThanOrEqual(LIMIT * Math.exp(x))
      }),
      { numRuns: 5000 },
    )
  })
})

describe('log', () => {
  test('is exact at 1', () => expect(log(1)).toBe(0))

  test('agrees with Math.log within the errors of both', () => {
    const anywhere = fc.double({ min: 2 ** -1000, max: 1, noNaN: true })
    const nearOne = fc.double({ min: 0.5, max: 1, noNaN: true })
    fc.assert(
      fc.property(fc.oneof(anywhere, nearOne), (x) => {
        expect(Math.abs(log(x) - Math.log(x))).toBeLessThanOrEqual(LIMIT * Math.abs(Math.log(x)))
      }),
      { numRuns: 5000 },
    )
  })
})
