import { describe, expect, test } from 'vitest'
import { bandPassEntries, bandPassMap } from './band-pass.js'
import type { Shape } from './entries.js'

/**
 * Evaluates equation 5 as the paper writes it, with `Math.exp` and the signed frequencies of the centred spectrum.
 */
function equation5([d1, d2]: Shape, centre: number, width: number): number[] {
  const signed = (i: number, d: number) => ((i + Math.floor(d / 2)) % d) - Math.floor(d / 2)
  return Array.from({ length: d1 * d2 }, (_, position) => {
    const squared = signed(Math.floor(position / d2), d1) ** 2 + signed(position % d2, d2) ** 2
    if (squared === 0) return centre === 0 ? 1 : 0
    return Math.exp(-(((squared - centre ** 2) / (Math.sqrt(squared) * width)) ** 2))
  })
}

describe('bandPassMap', () => {
  test.each([
    [[12, 16], 4, 3],
    [[7, 9], 0, 2],
    [[1, 31], 5, 200],
    [[31, 1], 5, 1],
    [[6, 100], 40, 10],
  ] as const)('gives equation 5 for shape %j, f_c = %f, W = %f', (shape, centerFrequency, bandwidth) => {
    const map = bandPassMap({ shape, centerFrequency, bandwidth })
    const expected = equation5(shape, centerFrequency, bandwidth)
    expect(map).toHaveLength(expected.length)
    map.forEach((p, position) => {
      // Both sides round the exponent t ≤ 700 ten times, which multiplies p by 1 ± 20·t·U; exp itself adds a
      // few U.
      const t = -Math.log(p)
      if (p > 0) expect(Math.abs(p - expected[position])).toBeLessThanOrEqual((20 * t + 8) * 2 ** -53 * p)
      else expect(expected[position]).toBeLessThan(1e-303)
    })
  })

  test('gives frequency zero the limit of p: 1 for f_c = 0, otherwise 0', () => {
    expect(bandPassMap({ shape: [4, 4], centerFrequency: 0 })[0]).toBe(1)
    expect(bandPassMap({ shape: [4, 4], centerFrequency: 1 })[0]).toBe(0)
  })

  test('gives a frequency and its negative the same weight', () => {
    const [d1, d2] = [9, 14]
    const map = bandPassMap({ shape: [d1, d2], centerFrequency: 3, bandwidth: 2 })
    map.forEach((p, position) => {
      const j = Math.floor(position / d2)
      const k = position % d2
      expect(map[((d1 - j) % d1) * d2 + ((d2 - k) % d2)]).toBe(p)
    })
  })

  test('rejects a shape whose map would take gigabytes', () => {
    expect(() => bandPassMap({ shape: [65536, 65536], centerFrequency: 0 })).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION' }),
    )
  })
})

describe('bandPassEntries', () => {
  test('draws each position in proportion to its p', () => {
    const shape = [11, 14] as const
    const weights = equation5(shape, 4, 3)
    const total = weights.reduce((sum, p) => sum + p, 0)
    const runs = 10000
    const counts = new Array<number>(weights.length).fill(0)
    for (let seed = 0; seed < runs; seed++) {
      const { rows, columns } = bandPassEntries({ shape, n: 1, seed, centerFrequency: 4, bandwidth: 3 })
      const position = rows[0] * shape[1] + columns[0]
      counts[position] = counts[position] + 1
    }
    // Positions with fewer than 5 expected draws are counted as one cell.
    const rare = { observed: 0, expected: 0 }
    let chiSquare = 0
    let freedom = 0
    weights.forEach((p, position) => {
      const expected = (runs * p) / total
      if (expected < 5) {
        rare.observed += counts[position]
        rare.expected += expected
        return
      }
      chiSquare += (counts[position] - expected) ** 2 / expected
      freedom++
    })
    chiSquare += (rare.observed - rare.expected) ** 2 / rare.expected
    expect(freedom).toBeGreaterThan(80)
    // Wilson and Hilferty's 99.9 % quantile of χ². The rare positions are one more cell, so cells − 1 = freedom.
    expect(chiSquare).toBeLessThan(
      freedom * (1 - 2 / (9 * freedom) + 3.09 * Math.sqrt(2 / (9 * freedom))) ** 3,
    )
  })

  test('draws from the band, with both signs of both frequencies', () => {
    const shape = [768, 770] as const
    const { rows, columns } = bandPassEntries({
      shape,
      n: 1000,
      seed: 777,
      centerFrequency: 100,
      bandwidth: 5,
    })
    const quadrants = new Set<string>()
    rows.forEach((j, l) => {
      const k = columns[l]
      const u = j < 384 ? j : j - 768
      const v = k < 385 ? k : k - 770
      quadrants.add(`${Math.sign(u)},${Math.sign(v)}`)
      // |D − f_c| ≈ 2.5·√t; the probability that any of 1000 draws exceeds t = 25 is below 10⁻⁸.
      expect(Math.abs(Math.hypot(u, v) - 100)).toBeLessThan(13)
    })
    expect(['1,1', '1,-1', '-1,1', '-1,-1'].every((quadrant) => quadrants.has(quadrant))).toBe(true)
  })

  test('gives the same entries for the same seed, others for another seed, and the same first entries for every n', () => {
    const options = { shape: [40, 25], n: 200, seed: 5, centerFrequency: 6, bandwidth: 4 } as const
    const entries = bandPassEntries(options)
    expect(bandPassEntries(options)).toEqual(entries)
    expect(bandPassEntries({ ...options, seed: 6 }).rows).not.toEqual(entries.rows)
    expect(bandPassEntries({ ...options, n: 50 }).rows).toEqual(entries.rows.slice(0, 50))
  })

  test.each([
    [[5, 5], 0, 200],
    [[8, 6], 0, 3],
    [[1, 17], 0, 1],
  ] as const)('draws every position of shape %j with f_c = 0', (shape, centerFrequency, bandwidth) => {
    const n = shape[0] * shape[1]
    const { rows, columns } = bandPassEntries({ shape, n, seed: 3, centerFrequency, bandwidth })
    expect(new Set(Array.from(rows, (j, l) => j * shape[1] + columns[l])).size).toBe(n)
  })

  test('draws only the positions on the ring if the band is very thin', () => {
    // 3² + 4² = 5² + 0²: 12 positions at distance 5 exactly.
    const options = { shape: [16, 16], seed: 1, centerFrequency: 5, bandwidth: 1e-9 } as const
    const { rows, columns } = bandPassEntries({ ...options, n: 12 })
    const signed = (i: number) => (i < 8 ? i : i - 16)
    rows.forEach((j, l) => {
      expect(Math.hypot(signed(j), signed(columns[l]))).toBe(5)
    })
    expect(() => bandPassEntries({ ...options, n: 13 })).toThrow('only 12 of the 256 positions')
    expect(() => bandPassEntries({ ...options, n: 13 })).toThrow(
      expect.objectContaining({ advice: 'choose a smaller n or a larger bandwidth' }),
    )
  })

  test('never draws frequency zero for f_c > 0', () => {
    const options = { shape: [4, 4], seed: 1, centerFrequency: 2 } as const
    const { rows, columns } = bandPassEntries({ ...options, n: 15 })
    expect(rows.some((j, l) => j === 0 && columns[l] === 0)).toBe(false)
    expect(() => bandPassEntries({ ...options, n: 16 })).toThrow(
      expect.objectContaining({ code: 'INVALID_ENTRY_COUNT' }),
    )
  })

  test('draws from the corners if the centre is beyond every frequency', () => {
    const entries = bandPassEntries({ shape: [16, 16], n: 8, seed: 1, centerFrequency: 20, bandwidth: 3 })
    expect(entries.rows.every((j) => j > 4 && j < 12)).toBe(true)
  })

  test.each([
    ['centerFrequency', { centerFrequency: -1 }],
    ['centerFrequency', { centerFrequency: Number.NaN }],
    ['centerFrequency', { centerFrequency: Number.POSITIVE_INFINITY }],
    ['bandwidth', { bandwidth: 0 }],
    ['bandwidth', { bandwidth: Number.NaN }],
    ['seed', { seed: 0.5 }],
  ])('rejects a bad %s and names it', (option, change) => {
    const options = { shape: [8, 8] as const, n: 4, seed: 1, centerFrequency: 2, ...change }
    expect(() => bandPassEntries(options)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringContaining(option) }),
    )
  })
})
