/** Tests the distribution, within the statistical error of the sample, and the sequence of numbers for a seed. */
import { describe, expect, it } from 'vitest'
import { standardNormal } from './standard-normal.js'

const N = 200_000

describe('standardNormal', () => {
  const next = standardNormal(7)
  const sample = Float64Array.from({ length: N }, next)
  const moment = (power: number) => sample.reduce((sum, x) => sum + x ** power, 0) / N

  // The standard deviation of the mean of x^p over N draws is sqrt((E x^2p − (E x^p)²)/N). The limit is five of them; a correct generator
  // exceeds it once in two million seeds.
  it.each([
    [1, 0, 1],
    [2, 1, 3 - 1],
    [3, 0, 15],
    [4, 3, 105 - 9],
    [6, 15, 10395 - 225],
  ])('has moment %i: %d', (power, expected, variance) => {
    expect(Math.abs(moment(power) - expected)).toBeLessThan(5 * Math.sqrt(variance / N))
  })

  it('has the expected share of each unit interval and of the tails', () => {
    // Φ(k + 1) − Φ(k) for k = 0, 1, 2 and 1 − Φ(3), from tables.
    const shares = [0.3413447460685, 0.1359051219833, 0.0214002339165, 0.0013498980316]
    const counts = [0, 0, 0, 0]
    for (const x of sample) {
      const k = Math.min(Math.floor(Math.abs(x)), 3)
      counts[k] = counts[k] + 1
    }
    for (const [k, share] of shares.entries()) {
      const expected = 2 * share * N
      const deviation = Math.sqrt(expected * (1 - 2 * share))
      expect(Math.abs(counts[k] - expected)).toBeLessThan(5 * deviation)
    }
  })

  it('gives the same numbers on every engine', () => {
    const again = standardNormal(7)
    expect(Array.from({ length: 4 }, again)).toEqual([...sample.subarray(0, 4)])
    // Recorded from this code, so that an adapter created with a seed can be created again.
    expect([...sample.subarray(0, 4)]).toEqual([
      -0.4384092314408935, -0.01591036096127696, -1.276049048330695, -0.43334216415378535,
    ])
  })

  it('gives other numbers for another seed', () => {
    expect(standardNormal(1)()).not.toBe(standardNormal(2)())
  })
})
