/** Reading and writing of safetensors: round trips of valid files, and an error for each kind of invalid file. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FourierFTError } from '../errors.js'
import {
  decodeFloats,
  encodeFloats,
  readSafetensors,
  type SafetensorsFile,
  type Tensor,
  type TensorDtype,
  writeSafetensors,
} from './safetensors.js'

const encoder = new TextEncoder()

/** Makes a file with any header text and any data. */
function file(header: string | Uint8Array, data: Uint8Array = new Uint8Array()): Uint8Array {
  const text = typeof header === 'string' ? encoder.encode(header) : header
  const bytes = new Uint8Array(8 + text.length + data.length)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true)
  bytes.set(text, 8)
  bytes.set(data, 8 + text.length)
  return bytes
}

function withTensors(tensors: Record<string, unknown>, length: number): Uint8Array {
  return file(JSON.stringify(tensors), new Uint8Array(length))
}

const F32 = (begin: number, end: number, shape: number[] = [(end - begin) / 4]) => ({
  dtype: 'F32',
  shape,
  data_offsets: [begin, end],
})

function errorOf(bytes: Uint8Array): FourierFTError {
  try {
    readSafetensors(bytes, 'model.safetensors')
  } catch (error) {
    if (FourierFTError.isInstance(error)) return error
    throw error
  }
  throw new Error('expected an error')
}

const WIDTHS: Record<TensorDtype, number> = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
}

const name = fc
  .string({ unit: 'grapheme', maxLength: 12 })
  .filter((text) => !/^__(metadata|proto)__$/.test(text))
const tensor: fc.Arbitrary<Tensor> = fc
  .record({
    dtype: fc.constantFrom(...(Object.keys(WIDTHS) as TensorDtype[])),
    shape: fc.array(fc.nat({ max: 4 }), { maxLength: 3 }),
    fill: fc.nat({ max: 255 }),
  })
  .map(({ dtype, shape, fill }) => {
    // Four elements are a whole number of bytes in every dtype.
    const padded = [4, ...shape]
    const length = (padded.reduce((a, b) => a * b) * WIDTHS[dtype]) / 8
    return { dtype, shape: padded, bytes: new Uint8Array(length).fill(fill) }
  })
const contents: fc.Arbitrary<SafetensorsFile> = fc.record(
  {
    tensors: fc
      .uniqueArray(fc.tuple(name, tensor), { selector: ([key]) => key, maxLength: 6 })
      .map((t) => new Map(t)),
    metadata: fc.dictionary(
      name.filter((key) => key !== 'constructor'),
      fc.string({ unit: 'grapheme' }),
      { maxKeys: 3, noNullPrototype: true },
    ),
  },
  { requiredKeys: ['tensors'] },
)

describe('round trips', () => {
  it('reads the tensors that it writes', () => {
    fc.assert(
      fc.property(contents, (written) => {
        const bytes = writeSafetensors(written)
        const read = readSafetensors(bytes, 'f')
        expect(new Map([...read.tensors].sort())).toEqual(new Map([...written.tensors].sort()))
        expect(read.metadata).toEqual(written.metadata)
        expect(bytes.length % 8).toBe(
          [...written.tensors.values()].reduce((sum, t) => sum + t.bytes.length, 0) % 8,
        )
      }),
    )
  })

  it('gives the same bytes for every valid file, with any order and spacing of its header', () => {
    const spaced = fc.record({
      written: contents,
      seed: fc.array(fc.nat({ max: 1000 }), { minLength: 7, maxLength: 7 }),
      indent: fc.nat({ max: 3 }),
      padding: fc.constantFrom('', ' ', '\n \t', '       '),
    })
    fc.assert(
      fc.property(spaced, ({ written, seed, indent, padding }) => {
        const canonical = writeSafetensors(written)
        const length = Number(new DataView(canonical.buffer).getBigUint64(0, true))
        const header = JSON.parse(new TextDecoder().decode(canonical.subarray(8, 8 + length)))
        const ranks = new Map(Object.keys(header).map((key, i) => [key, seed[i] ?? 0]))
        const shuffled = Object.entries(header).sort(([a], [b]) => (ranks.get(a) ?? 0) - (ranks.get(b) ?? 0))
        const text = JSON.stringify(Object.fromEntries(shuffled), null, indent) + padding
        const bytes = file(text, canonical.subarray(8 + length))
        expect(writeSafetensors(readSafetensors(bytes, 'f'))).toEqual(bytes)
      }),
    )
  })

  it('keeps the header if only numbers change, and makes a new one if tensors or metadata change', () => {
    const bytes = file(
      '{"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]} , "a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
      Uint8Array.of(7, 9),
    )
    const read = readSafetensors(bytes, 'f')
    const changed = new Map(read.tensors).set('a', { dtype: 'U8', shape: [1], bytes: Uint8Array.of(8) })
    const expected = bytes.slice()
    expected[expected.length - 2] = 8
    expect(writeSafetensors({ ...read, tensors: changed })).toEqual(expected)
    const grown = new Map(read.tensors).set('a', { dtype: 'U8', shape: [2], bytes: Uint8Array.of(8, 8) })
    expect(
      readSafetensors(writeSafetensors({ ...read, tensors: grown }), 'f').tensors.get('a')?.shape,
    ).toEqual([2])
    const renamed = readSafetensors(writeSafetensors({ ...read, metadata: { key: 'value' } }), 'f')
    expect(renamed.metadata).toEqual({ key: 'value' })
  })
})

it('orders tensors as the safetensors library does: by dtype, widest first, then by name', () => {
  const u8 = (value: number): Tensor => ({ dtype: 'U8', shape: [1], bytes: Uint8Array.of(value) })
  const bytes = writeSafetensors({
    // U+FF5E comes before U+1F600 in UTF-8, after it in UTF-16.
    tensors: new Map([
      ['\u{1f600}', u8(1)],
      ['\uff5e', u8(2)],
      ['z', { dtype: 'F32', shape: [1], bytes: new Uint8Array(4) }],
      ['a', u8(3)],
    ]),
    metadata: { format: 'pt' },
  })
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true))
  expect(new TextDecoder().decode(bytes.subarray(8, 8 + length)).trimEnd()).toBe(
    '{"__metadata__":{"format":"pt"},"z":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},' +
      '"a":{"dtype":"U8","shape":[1],"data_offsets":[4,5]},"\uff5e":{"dtype":"U8","shape":[1],"data_offsets":[5,6]},' +
      '"\u{1f600}":{"dtype":"U8","shape":[1],"data_offsets":[6,7]}}',
  )
  expect(length % 8).toBe(0)
})

describe('readSafetensors', () => {
  const cases: Record<string, [Uint8Array, string]> = {
    'no header length': [new Uint8Array(7), '8 bytes'],
    'an empty file': [new Uint8Array(), '8 bytes'],
    'a header longer than the file': [file('{}').subarray(0, 9), 'header'],
    'a header length of 2⁶⁴ − 1': [new Uint8Array(16).fill(255), 'header length'],
    'a header longer than the library allows': [
      (() => {
        const bytes = new Uint8Array(100_000_020)
        new DataView(bytes.buffer).setUint32(0, 100_000_001, true)
        return bytes
      })(),
      '100000000',
    ],
    'an empty header': [file(''), '{'],
    'a header that begins with a space': [file(' {}'), '{'],
    'a header that is a list': [file('[]'), '{'],
    'a tensor that is not an object': [withTensors({ a: 1 }, 0), 'object'],
    'a missing dtype': [withTensors({ a: { shape: [], data_offsets: [0, 0] } }, 0), 'dtype'],
    'an unknown dtype': [withTensors({ a: { dtype: 'F128', shape: [], data_offsets: [0, 16] } }, 16), 'F128'],
    'a dtype that is a method of every object': [
      withTensors({ a: { dtype: 'toString', shape: [], data_offsets: [0, 1] } }, 1),
      'dtype',
    ],
    'an unknown key': [withTensors({ a: { ...F32(0, 4), extra: 1 } }, 4), 'extra'],
    'a negative shape': [withTensors({ a: F32(0, 4, [-1]) }, 4), 'shape'],
    'a fractional shape': [withTensors({ a: F32(0, 4, [0.5, 2]) }, 4), 'shape'],
    'a shape that overflows': [withTensors({ a: F32(0, 4, [2 ** 32, 2 ** 32]) }, 4), 'bytes'],
    'a shape that overflows to zero in 64 bits': [
      withTensors({ a: F32(0, 0, [2 ** 40, 2 ** 40]) }, 0),
      'bytes',
    ],
    'bytes that do not fit the shape': [withTensors({ a: F32(0, 8, [1]) }, 8), '4 bytes'],
    'half a byte': [withTensors({ a: { dtype: 'F4', shape: [1], data_offsets: [0, 1] } }, 1), 'bytes'],
    'offsets that run backwards': [withTensors({ a: F32(4, 0, [1]) }, 4), 'data_offsets'],
    'three offsets': [withTensors({ a: { ...F32(0, 4), data_offsets: [0, 4, 4] } }, 4), 'data_offsets'],
    'overlapping tensors': [withTensors({ a: F32(0, 8), b: F32(4, 12) }, 12), 'overlaps'],
    'two tensors with the same bytes': [withTensors({ a: F32(0, 8), b: F32(0, 8) }, 8), 'overlaps'],
    'a gap between tensors': [withTensors({ a: F32(0, 4), b: F32(8, 12) }, 12), 'gap'],
    'a gap before the first': [withTensors({ a: F32(4, 8) }, 8), 'gap'],
    'data past the last tensor': [withTensors({ a: F32(0, 4) }, 5), 'data'],
    'a file that was cut off': [withTensors({ a: F32(0, 8) }, 7), 'cut off'],
    'metadata that is not an object': [withTensors({ __metadata__: 'text' }, 0), 'metadata'],
    'a value of the metadata that is not a string': [withTensors({ __metadata__: { a: 1 } }, 0), 'string'],
  }
  it.each(Object.entries(cases))('rejects %s', (_, [bytes, part]) => {
    const error = errorOf(bytes)
    expect(error.code).toBe('INVALID_SAFETENSORS')
    expect(error.message).toContain('model.safetensors')
    expect(error.message).toContain(part)
    expect(error.details.file).toBe('model.safetensors')
  })

  const texts: Record<string, string | Uint8Array> = {
    'a duplicate name':
      '{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"\\u0061":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
    'a tensor named __proto__': '{"__proto__":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
    'a key __proto__ in a tensor': '{"a":{"__proto__":{},"dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
    'a header that is not JSON': '{"a":',
    'a header that is not UTF-8': Uint8Array.of(0x7b, 0xff, 0x7d),
    'deep nesting': `{"a":${'['.repeat(100_000)}`,
  }
  it.each(Object.entries(texts))('rejects %s', (_, text) => {
    expect(errorOf(file(text)).code).toBe('INVALID_JSON')
  })

  const numbers = ['2.0', '2e0', '0.2E1', '20e-1']
  it.each(numbers)('rejects a size written as %s, as the safetensors library does', (two) => {
    const error = errorOf(
      file(`{"a-1.5":{"dtype":"F32","shape":[${two}],"data_offsets":[0,8]}}`, new Uint8Array(8)),
    )
    expect(error).toMatchObject({ code: 'INVALID_SAFETENSORS', details: { received: two } })
  })

  it('rejects a negative zero', () => {
    const error = errorOf(file('{"a":{"dtype":"F32","shape":[2],"data_offsets":[-0,8]}}', new Uint8Array(8)))
    expect(error).toMatchObject({ code: 'INVALID_SAFETENSORS', details: { received: '-0' } })
  })

  const halves: Record<string, string> = {
    'a name': '{"a\\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
    'a key of the metadata': '{"__metadata__":{"\\udc00":""}}',
    'a value of the metadata': '{"__metadata__":{"a":"\\ud83dx"}}',
  }
  it.each(Object.entries(halves))('rejects half a surrogate pair in %s', (_, text) => {
    const error = errorOf(file(text))
    expect(error).toMatchObject({
      code: 'INVALID_SAFETENSORS',
      message: expect.stringContaining('surrogate'),
    })
  })

  it('writeSafetensors rejects half a surrogate pair', () => {
    const tensor = { dtype: 'U8', shape: [0], bytes: new Uint8Array() } as const
    for (const [name, metadata] of [
      ['a\ud800', {}],
      ['a', { b: '\udfff' }],
    ] as const)
      expect(() => writeSafetensors({ tensors: new Map([[name, tensor]]), metadata })).toThrow(/surrogate/)
  })

  it('writeSafetensors rejects bytes that do not fit the shape of their tensor', () => {
    const tensors = new Map([['a', { dtype: 'F32', shape: [2], bytes: new Uint8Array(7) } as const]])
    expect(() => writeSafetensors({ tensors })).toThrow(FourierFTError)
  })
})

it('treats null metadata as absent, and writes it back', () => {
  const bytes = file(
    '{"__metadata__":null,"a\\ud83d\\ude00":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
    Uint8Array.of(7),
  )
  const read = readSafetensors(bytes, 'model.safetensors')
  expect(read.metadata).toBeUndefined()
  expect([...read.tensors.keys()]).toEqual(['a😀'])
  expect(writeSafetensors(read)).toEqual(bytes)
})

describe('floating-point tensors', () => {
  it.each(['F32', 'F16', 'BF16', 'F64'] as const)('%s: encode is the inverse of decode', (dtype) => {
    const width = WIDTHS[dtype] / 8
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 8, maxLength: 64 }), (bytes) => {
        const elements = bytes.slice(0, bytes.length - (bytes.length % width))
        const values = decodeFloats({ dtype, bytes: elements })
        // A NaN may lose its payload; adapters contain no NaN.
        if (values.some(Number.isNaN)) return
        expect(encodeFloats(values, dtype)).toEqual(elements)
      }),
    )
  })

  it('cannot be decoded from integers', () => {
    expect(() => decodeFloats({ dtype: 'I64', bytes: new Uint8Array(8) })).toThrow(/I64/)
  })
})
