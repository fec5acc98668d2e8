import { describe, expect, test } from 'vitest'
import { uniformEntries } from '../entries/uniform.js'
import { createLayer } from './layer.js'

const shape = [4, 6] as const
const entries = uniformEntries({ shape, n: 3, seed: 1 })
const valid = { name: 'encoder.query', shape, entries, coefficients: Float32Array.of(1, 2, 3), scaling: 150 }

describe('createLayer', () => {
  test('keeps entries and coefficients without copying them', () => {
    const layer = createLayer(valid)
    expect(layer).toEqual(valid)
    expect(layer.entries).toBe(entries)
    expect(layer.coefficients).toBe(valid.coefficients)
  })

  test.each([
    ['an empty name', { name: '' }, 'INVALID_OPTION'],
    ['the transposed shape', { shape: [6, 4] as const }, 'SHAPE_MISMATCH'],
    ['one coefficient too few', { coefficients: Float32Array.of(1, 2) }, 'SHAPE_MISMATCH'],
    [
      'integer coefficients',
      { coefficients: Int32Array.of(1, 2, 3) as unknown as Float32Array },
      'INVALID_OPTION',
    ],
    ['a coefficient that is NaN', { coefficients: Float32Array.of(1, Number.NaN, 3) }, 'NOT_FINITE'],
    ['an infinite scaling', { scaling: Number.POSITIVE_INFINITY }, 'NOT_FINITE'],
  ])('rejects %s, and names the layer or the option', (_, change, code) => {
    expect(() => createLayer({ ...valid, ...change })).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(/encoder\.query|name/) }),
    )
  })
})
