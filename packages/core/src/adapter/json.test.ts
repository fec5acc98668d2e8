import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FourierFTError } from '../errors.js'
import { decodeUtf8, jsonMembers, parseJson } from './json.js'

function errorOf(run: () => unknown): FourierFTError {
  try {
    run()
  } catch (error) {
    if (FourierFTError.isInstance(error)) return error
    throw error
  }
  throw new Error('nothing was thrown')
}

describe('parseJson', () => {
  it('returns the same values as JSON.parse', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 5 }), (text) => {
        fc.pre(!text.includes('__proto__'))
        expect(parseJson(text, 'f')).toEqual(JSON.parse(text))
      }),
    )
  })

  it('reads bytes as UTF-8', () => {
    expect(parseJson(new TextEncoder().encode('{"é":"😀"}'), 'f')).toEqual({ é: '😀' })
    expect(errorOf(() => parseJson(new Uint8Array([0x22, 0xff, 0x22]), 'a.json'))).toMatchObject({
      code: 'INVALID_JSON',
      message: 'a.json cannot be used: it is not UTF-8 text',
    })
    expect(decodeUtf8(new Uint8Array([0xef, 0xbb, 0xbf, 0x31]), 'f')).toBe('\ufeff1')
  })

  it('keeps names of the object prototype as data', () => {
    const value = parseJson('{"constructor":1,"toString":2,"hasOwnProperty":{"prototype":3}}', 'f') as object
    expect(Object.entries(value)).toEqual([
      ['constructor', 1],
      ['toString', 2],
      ['hasOwnProperty', { prototype: 3 }],
    ])
  })

  it.each([
    ['{"a":1,"a":2}', '"a" occurs twice'],
    ['{"a":1,"\\u0061":2}', '"a" occurs twice'],
    ['[{"x":{"b":[],"c":"b","b" :0}}]', '"b" occurs twice'],
    ['{"__proto__":{"x":1}}', 'prototype'],
    ['{"a":{"\\u005f_proto__":1}}', 'prototype'],
    ['{"constructor":{"prototype":{}}}', 'prototype'],
    ['{"a":1,}', 'not JSON'],
    ['{"a":NaN}', 'not JSON'],
    ['{"a', 'not JSON'],
    ['', 'not JSON'],
    ['}', 'not JSON'],
    ['\ufeff{}', 'byte order mark'],
  ])('rejects %s', (text, reason) => {
    const error = errorOf(() => parseJson(text, 'adapter_config.json'))
    expect(error.code).toBe('INVALID_JSON')
    expect(error.details.file).toBe('adapter_config.json')
    expect(error.message).toContain('adapter_config.json')
    expect(error.message).toContain(reason)
  })

  it('accepts one key in two objects, and a value that equals a key', () => {
    expect(parseJson('[{"a":"a"},{"a":{"a":"\\"a\\":"}}]', 'f')).toEqual([{ a: 'a' }, { a: { a: '"a":' } }])
  })

  it('limits the size, the depth and the number of values', () => {
    expect(errorOf(() => parseJson('[1,2,3]', 'f', { maxLength: 6 })).message).toContain('limit is 6')
    expect(parseJson('[[[]]]', 'f', { maxDepth: 3 })).toEqual([[[]]])
    expect(errorOf(() => parseJson('[[[]]]', 'f', { maxDepth: 2 })).message).toContain('deeper than 2')
    expect(errorOf(() => parseJson('[1,2,3]', 'f', { maxValues: 2 })).message).toContain('more than 2')
  })

  it('stays linear on hostile texts', () => {
    // Quadratic work would be 10^13 steps here: the test would not end.
    const size = 3_000_000
    for (const text of [
      '['.repeat(size),
      '"'.repeat(size),
      '\\"'.repeat(size),
      `{"${'\\'.repeat(size)}`,
      '{"a":'.repeat(size),
    ]) {
      expect(errorOf(() => parseJson(text, 'f')).code).toBe('INVALID_JSON')
    }
  })
})

describe('jsonMembers', () => {
  it('yields the source text of each value, in order', () => {
    const text = '{ "10" : 1.0 ,"7":[1,{"x":"},"}], "\\u0061": "\\"," ,"n":18446744073709551615,"e":{} }'
    parseJson(text, 'f')
    expect([...new Map(jsonMembers(text, 'f'))]).toEqual([
      ['10', '1.0'],
      ['7', '[1,{"x":"},"}]'],
      ['a', '"\\","'],
      ['n', '18446744073709551615'],
      ['e', '{}'],
    ])
    expect(new Map(jsonMembers('{}', 'f')).size).toBe(0)
  })

  it('agrees with JSON.parse on every object', () => {
    const key = fc.string({ unit: 'binary' }).filter((name) => name !== '__proto__')
    fc.assert(
      fc.property(
        fc.dictionary(key, fc.jsonValue(), { noNullPrototype: true }),
        fc.constantFrom(0, 2),
        (object, indent) => {
          const members = new Map(jsonMembers(JSON.stringify(object, null, indent), 'f'))
          const read = Object.fromEntries([...members].map(([name, literal]) => [name, JSON.parse(literal)]))
          expect(JSON.stringify(read)).toBe(JSON.stringify(object))
        },
      ),
    )
  })
})
