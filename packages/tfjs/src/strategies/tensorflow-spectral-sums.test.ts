import { uniformEntries } from '@fourierft/core'
import { describe, expect, it } from 'vitest'
import { type Contributions, contributions, inSlots } from './tensorflow-spectral-sums.js'

/** Gives each term a whole number, so that sums are exact in any order. The factor is doubled, because odd lengths have halves. */
function value({ source, entry, factors }: Omit<Contributions, 'target'>, i: number): number {
  return 2 * factors[i] * (100 * source[i] + entry[i])
}

function addTo(sums: number[], index: number, value: number): void {
  sums[index] = sums[index] + value
}

describe.each([
  [1, 1, 1],
  [1, 24, 10],
  [2, 2, 4],
  [3, 7, 1],
  [7, 3, 21],
  [16, 16, 256],
  [24, 13, 40],
])('contributions to [%i, %i], n = %i', (d1, d2, n) => {
  const entries = uniformEntries({ shape: [d1, d2], n, seed: 1 })

  it.each([
    ['forward', d2, d1],
    ['adjoint', d1, d2],
  ] as const)(
    'are sorted, are within both half spectra and include the last row: %s',
    (direction, inputs, outputs) => {
      const { source, target } = contributions(entries, direction)
      expect(target).toEqual(target.toSorted())
      expect(Math.max(...source)).toBeLessThan(2 * (Math.floor(inputs / 2) + 1))
      expect(target.at(-1)).toBe(2 * Math.floor(outputs / 2) + 1)
    },
  )

  it('have the same sums in one step and in two', () => {
    const terms = contributions(entries, 'forward')
    const expected = new Array<number>(2 * Math.floor(d1 / 2) + 2).fill(0)
    terms.target.forEach((row, i) => {
      addTo(expected, row, value(terms, i))
    })
    const { parts, width, rowParts, partsPerRow } = inSlots(terms)
    const sums = new Array<number>(parts.source.length / width).fill(0)
    parts.source.forEach((_, i) => {
      addTo(sums, Math.floor(i / width), value(parts, i))
    })
    const actual = new Array<number>(expected.length).fill(0)
    rowParts.forEach((part, i) => {
      addTo(actual, Math.floor(i / partsPerRow), sums[part])
    })
    expect(actual).toEqual(expected)
  })
})
