import { decodeFloats, encodeFloats } from '@fourierft/core'
import { describe, expect, it } from 'vitest'
import { decodeHalves, encodeHalves } from './half-floats.js'

describe.each(['F16', 'BF16'] as const)('%s', (dtype) => {
  const patterns = Uint16Array.from({ length: 2 ** 16 }, (_, pattern) => pattern)
  const values = new Float32Array(2 ** 16)
  decodeHalves(patterns, dtype, values)

  it('decodes each pattern as core does', () => {
    expect(values).toEqual(decodeFloats({ dtype, bytes: new Uint8Array(patterns.buffer) }))
  })

  it('returns the pattern of each value as core does', () => {
    const encoded = new Uint16Array(2 ** 16)
    encodeHalves(values, dtype, encoded)
    expect(encoded.filter((_, i) => !Number.isNaN(values[i]))).toEqual(
      patterns.filter((_, i) => !Number.isNaN(values[i])),
    )
    const ofCore = new Uint16Array(encodeFloats(values, dtype).buffer)
    expect(encoded.filter((_, i) => !Number.isNaN(values[i]))).toEqual(
      ofCore.filter((_, i) => !Number.isNaN(values[i])),
    )
    const again = new Float32Array(2 ** 16)
    decodeHalves(encoded, dtype, again)
    expect(again).toEqual(values)
  })
})
