import { describe, expect, test } from 'vitest'
import { entriesDigest } from './digest.js'
import { explicitEntries } from './explicit.js'
import { makeEntries } from './make-entries.js'
import { uniformEntries } from './uniform.js'

const shape = [3, 5] as const

describe('explicitEntries', () => {
  test('keeps the order and copies the lists', () => {
    const rows = [2, 0, 1]
    const entries = explicitEntries({ shape, rows, columns: [4, 0, 3] })
    rows[0] = 0
    expect(entries).toEqual({
      shape: [3, 5],
      n: 3,
      rows: Uint32Array.of(2, 0, 1),
      columns: Uint32Array.of(4, 0, 3),
      recipe: { sampler: 'explicit' },
    })
  })

  test.each([
    ['a row that is too large', [3], [0], 'ENTRY_OUT_OF_RANGE'],
    ['a column that is too large', [0], [5], 'ENTRY_OUT_OF_RANGE'],
    ['a negative row', [-1], [0], 'ENTRY_OUT_OF_RANGE'],
    ['a fraction', [0], [0.5], 'ENTRY_OUT_OF_RANGE'],
    ['NaN', [Number.NaN], [0], 'ENTRY_OUT_OF_RANGE'],
    ['a position that occurs twice', [1, 0, 1], [3, 0, 3], 'DUPLICATE_ENTRY'],
    ['lists of different lengths', [1, 2], [3], 'SHAPE_MISMATCH'],
    ['no entries', [], [], 'INVALID_ENTRY_COUNT'],
    ['more entries than positions', Array(16).fill(0), Array(16).fill(0), 'INVALID_ENTRY_COUNT'],
  ])('rejects %s', (_, rows, columns, code) => {
    expect(() => explicitEntries({ shape, rows, columns })).toThrow(expect.objectContaining({ code }))
  })

  test('names the position of a duplicate', () => {
    expect(() => explicitEntries({ shape, rows: [1, 1], columns: [3, 3] })).toThrow('(1, 3)')
  })
})

describe('entriesDigest', () => {
  test('is SHA-256 of the little-endian rows, then columns', () => {
    // printf '\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0' | sha256sum
    expect(entriesDigest(explicitEntries({ shape, rows: [1, 2], columns: [3, 4] }))).toBe(
      'cf97adeedb59e05bfd73a2b4c2a8885708c4f4f70c84c64b27120e72ab733b72',
    )
  })
})

describe('makeEntries', () => {
  test('draws the entries of a recipe again', () => {
    const entries = uniformEntries({ shape, n: 7, seed: 11 })
    if (entries.recipe.sampler === 'explicit') throw new Error('expected a uniform recipe')
    expect(makeEntries(shape, entries.recipe)).toEqual(entries)
  })

  test('rejects an explicit recipe', () => {
    const recipe = JSON.parse('{ "sampler": "explicit" }')
    expect(() => makeEntries(shape, recipe)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }))
  })
})
