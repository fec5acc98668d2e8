import { describe, expect, test } from 'vitest'
import { MersenneTwister } from './mersenne-twister.js'
import { weightedSample } from './weighted-sample.js'

const sample = (seed: number, weights: readonly number[], n: number) =>
  Array.from(weightedSample(new MersenneTwister(seed), weights.length, (item) => weights[item], n))

describe('weightedSample', () => {
  test('draws pairs with the probabilities of two successive draws', () => {
    const weights = [1, 0.5, 0, 0.25, 0.125]
    const total = 1.875
    const runs = 20000
    const counts = new Map<string, number>()
    for (let seed = 0; seed < runs; seed++) {
      const pair = sample(seed, weights, 2).join()
      counts.set(pair, (counts.get(pair) ?? 0) + 1)
    }
    let chiSquare = 0
    weights.forEach((first, i) => {
      weights.forEach((second, j) => {
        if (i === j || first * second === 0) return
        const expected = ((runs * first) / total) * (second / (total - first))
        chiSquare += ((counts.get(`${i},${j}`) ?? 0) - expected) ** 2 / expected
        counts.delete(`${i},${j}`)
      })
    })
    expect(counts.size).toBe(0)
    // 12 possible pairs, 11 degrees of freedom: the 99.9 % quantile.
    expect(chiSquare).toBeLessThan(31.26)
  })

  test('begins a larger sample with the smaller one', () => {
    const weights = Array.from({ length: 500 }, (_, item) => 1 / (1 + item))
    const whole = sample(7, weights, 500)
    expect([...whole].sort((a, b) => a - b)).toEqual(weights.map((_, item) => item))
    for (const n of [1, 2, 3, 50, 499]) expect(sample(7, weights, n)).toEqual(whole.slice(0, n))
  })

  test('gives fewer items if fewer have a weight above 0', () => {
    expect(sample(1, [0, 0.5, 0, 0], 3)).toEqual([1])
    expect(sample(1, [0, 0], 2)).toEqual([])
  })

  test('draws far smaller weights last', () => {
    expect(sample(3, [1e-300, 1, 1e-150], 3)).toEqual([1, 2, 0])
  })
})
