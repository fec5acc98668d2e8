/** Text while it is generated: whole characters, exact stop strings. */
import { describe, expect, test } from 'vitest'
import { StopStrings, TokenText } from './generated-text.js'

/** Tokens that are bytes, as in byte-level BPE. */
const bytes = {
  decode: (ids: readonly bigint[]) => new TextDecoder().decode(Uint8Array.from(ids, Number)),
}

function pieces(text: string, prompt = 'a prompt '): string[] {
  const ids = (text: string) => Array.from(new TextEncoder().encode(text), BigInt)
  const tokens = new TokenText(bytes, ids(prompt))
  return [...ids(text).map((id) => tokens.push(id)), tokens.end()]
}

describe('TokenText', () => {
  test('returns whole characters only', () => {
    const text = 'žluť 🙂 語 ok'
    const given = pieces(text)
    expect(given.join('')).toBe(text)
    expect(given.filter((piece) => piece !== '')).toEqual(Array.from(text))
  })
  test('returns broken bytes at the end', () => {
    const tokens = new TokenText(bytes, [])
    expect([tokens.push(0xe8n), tokens.push(0xaan), tokens.end()]).toEqual(['', '', '\ufffd'])
  })
  test('works after an empty prompt', () => {
    expect(pieces('abc', '').join('')).toBe('abc')
  })
})

describe('StopStrings', () => {
  /** What comes out for each piece, and at the end. */
  function cut(stops: string[], ...given: string[]) {
    const stopping = new StopStrings(stops)
    const out = given.map((piece) => stopping.push(piece))
    return { out, end: stopping.end(), found: stopping.found }
  }
  test('cuts before a stop string that comes in pieces', () => {
    expect(cut(['END'], 'a E', 'N', 'D b')).toEqual({ out: ['a ', '', ''], end: '', found: true })
  })
  test('gives back what only looked like one', () => {
    expect(cut(['END'], 'a E', 'N', 'X')).toEqual({ out: ['a ', '', 'ENX'], end: '', found: false })
    expect(cut(['END'], 'a EN')).toEqual({ out: ['a '], end: 'EN', found: false })
  })
  test('the begin of a stop string can repeat', () => {
    expect(cut(['aab'], 'a', 'a', 'a', 'b', 'x')).toEqual({
      out: ['', '', 'a', '', ''],
      end: '',
      found: true,
    })
  })
  test('the first of several counts', () => {
    expect(cut(['later', 'now'], 'xx now later').out).toEqual(['xx '])
    expect(cut(['ab', 'b'], 'xab').out).toEqual(['x'])
  })
  test('every way of cutting a text into pieces gives the same', () => {
    const text = 'one\n\ntwo\n\n\nthree'
    for (let first = 0; first <= text.length; first++) {
      for (let second = first; second <= text.length; second++) {
        const { out, end } = cut(
          ['\n\n\n'],
          text.slice(0, first),
          text.slice(first, second),
          text.slice(second),
        )
        expect(out.join('') + end).toBe('one\n\ntwo')
      }
    }
  })
})
