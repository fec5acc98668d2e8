/** Tests all bit patterns of both formats, and all midpoints between neighbours. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BFLOAT16, decodeHalfFloat, encodeHalfFloat, FLOAT16, halfFloatTable } from './half-float.js'

const PATTERNS = Array.from({ length: 65536 }, (_, pattern) => pattern)

describe.each([
  ['float16', FLOAT16],
  ['bfloat16', BFLOAT16],
] as const)('%s', (_, format) => {
  const decode = (pattern: number) => decodeHalfFloat(pattern, format)
  const encode = (value: number) => encodeHalfFloat(value, format)

  it('has every pattern in its table', () => {
    const table = halfFloatTable(format)
    expect(PATTERNS.filter((pattern) => !Object.is(table[pattern], decode(pattern)))).toEqual([])
  })

  it('encodes every decoded pattern to the same pattern, and every NaN to a NaN', () => {
    const wrong = PATTERNS.filter((pattern) => {
      const value = decode(pattern)
      return Number.isNaN(value) ? !Number.isNaN(decode(encode(value))) : encode(value) !== pattern
    })
    expect(wrong).toEqual([])
  })

  it('rounds to nearest, ties to even, at every midpoint and beside it', () => {
    // Positive finite neighbours. From the midpoint after the largest number on, values round to infinity.
    const largest = decode(encode(Infinity) - 1)
    const step = largest - decode(encode(Infinity) - 2)
    const wrong: number[] = []
    for (let pattern = 0; pattern < encode(Infinity); pattern++) {
      const low = decode(pattern)
      const high = pattern + 1 === encode(Infinity) ? largest + step : decode(pattern + 1)
      const middle = (low + high) / 2
      const even = pattern % 2 === 0 ? pattern : pattern + 1
      const offset = (high - low) * 2 ** -20
      const ok =
        encode(middle) === even &&
        encode(middle - offset) === pattern &&
        encode(middle + offset) === pattern + 1 &&
        encode(-middle) === even + 0x8000
      if (!ok) wrong.push(pattern)
    }
    expect(wrong).toEqual([])
  })

  it('rounds every double to the nearest number', () => {
    fc.assert(
      fc.property(fc.double({ min: -3e38, max: 3e38, noNaN: true }), (value) => {
        const pattern = encode(value) & 0x7fff
        const error = Math.abs(Math.abs(value) - decode(pattern))
        if (pattern >= encode(Infinity)) return Math.abs(value) > decode(encode(Infinity) - 1)
        const below = pattern === 0 ? Infinity : Math.abs(Math.abs(value) - decode(pattern - 1))
        const above =
          pattern + 1 === encode(Infinity) ? Infinity : Math.abs(Math.abs(value) - decode(pattern + 1))
        return error <= below && error <= above
      }),
    )
  })

  it('keeps the signs of zero and infinity', () => {
    expect([0, -0, Infinity, -Infinity].map((value) => decode(encode(value)))).toEqual([
      0,
      -0,
      Infinity,
      -Infinity,
    ])
    expect(encode(Number.MAX_VALUE)).toBe(encode(Infinity))
    expect(encode(Number.MIN_VALUE)).toBe(0)
  })
})

it('reads bfloat16 as the upper half of a float32', () => {
  const float = new Float32Array(1)
  const word = new Uint32Array(float.buffer)
  const wrong = PATTERNS.filter((pattern) => {
    word[0] = pattern * 65536
    return !Object.is(decodeHalfFloat(pattern, BFLOAT16), float[0])
  })
  expect(wrong).toEqual([])
})
