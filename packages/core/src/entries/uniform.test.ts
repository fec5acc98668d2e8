import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { seedWord } from './seed.js'
import { randomPermutation, uniformEntries } from './uniform.js'

/** Shapes of at most a few thousand positions, with an entry count that fits. */
const small = fc.tuple(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 1, max: 60 })).chain(([d1, d2]) =>
  fc.record({
    shape: fc.constant([d1, d2] as const),
    n: fc.integer({ min: 1, max: d1 * d2 }),
    seed: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }),
  }),
)

describe('uniformEntries', () => {
  test('draws distinct positions of the spectrum', () => {
    fc.assert(
      fc.property(small, ({ shape, n, seed }) => {
        const { rows, columns } = uniformEntries({ shape, n, seed })
        expect(rows.every((j) => j < shape[0])).toBe(true)
        expect(columns.every((k) => k < shape[1])).toBe(true)
        expect(new Set(Array.from(rows, (j, l) => j * shape[1] + columns[l])).size).toBe(n)
      }),
    )
  })

  test('gives the same first m entries for every n, whether the whole permutation is stored or not', () => {
    const shape = [50, 60] as const
    const all = uniformEntries({ shape, n: 3000, seed: 5 })
    for (const m of [1, 20, 187, 188, 1500]) {
      const some = uniformEntries({ shape, n: m, seed: 5 })
      expect(some.rows).toEqual(all.rows.slice(0, m))
      expect(some.columns).toEqual(all.columns.slice(0, m))
    }
  })

  test('records its options in the recipe', () => {
    expect(uniformEntries({ shape: [4, 4], n: 3, seed: 9n }).recipe).toEqual({
      sampler: 'uniform',
      seed: 9n,
      n: 3,
    })
    expect(uniformEntries({ shape: [4, 4], n: 3, seed: 9, algorithm: 'legacy' }).recipe).toEqual({
      sampler: 'uniform',
      seed: 9,
      n: 3,
      algorithm: 'legacy',
    })
  })

  test.each([0, -1, 1.5, Number.NaN, 17, Number.POSITIVE_INFINITY])(
    'rejects n = %s for 16 positions',
    (n) => {
      expect(() => uniformEntries({ shape: [4, 4], n, seed: 0 })).toThrow(
        expect.objectContaining({ code: 'INVALID_ENTRY_COUNT' }),
      )
    },
  )

  test('advises a smaller n if there are fewer positions', () => {
    expect(() => uniformEntries({ shape: [4, 4], n: 17, seed: 0 })).toThrow(
      expect.objectContaining({
        problem: 'n: a spectrum of shape [4, 4] has 16 positions; received 17',
        advice: 'choose a smaller n',
      }),
    )
  })

  test.each([[[0, 4]], [[4, -4]], [[2.5, 4]], [[Number.NaN, 4]], [[65537, 65536]]] as const)(
    'rejects shape %j',
    (shape) => {
      expect(() => uniformEntries({ shape, n: 1, seed: 0 })).toThrow(
        expect.objectContaining({ code: 'INVALID_OPTION' }),
      )
    },
  )

  test('rejects an unknown algorithm', () => {
    const options = { shape: [4, 4] as const, n: 1, seed: 0, algorithm: 'modern' as 'legacy' }
    expect(() => uniformEntries(options)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }))
  })
})

test('randomPermutation returns the numbers of torch.randperm', () => {
  // torch.randperm(6, generator=torch.Generator().manual_seed(0))
  expect(randomPermutation(6, 0)).toEqual([2, 5, 3, 0, 1, 4])
  expect(randomPermutation(0, 0)).toEqual([])
})

describe('seedWord', () => {
  test.each([
    [0, 0],
    [777, 777],
    [-1, 0xffffffff],
    [2 ** 32 + 5, 5],
    [-(2n ** 63n), 0],
    [2n ** 64n - 1n, 0xffffffff],
  ] as const)('returns the low 32 bits of %s: %s', (seed, word) => {
    expect(seedWord(seed)).toBe(word)
  })

  test.each([0.5, Number.NaN, 2 ** 53, 2n ** 64n, -(2n ** 63n) - 1n])('rejects %s', (seed) => {
    expect(() => seedWord(seed)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }))
  })
})
