/** Tests messages that contain untrusted names, and the field `advice`. */
import { describe, expect, it } from 'vitest'
import { FourierFTError, printable } from './errors.js'

describe('a message', () => {
  it('escapes control characters and direction marks', () => {
    const { message, details } = new FourierFTError('INVALID_OPTION', 'module a\x1b[2J\nb\u202e\u061cc\x9b', {
      module: 'a\x1b[2J\nb\u202e\u061cc\x9b',
    })
    expect(message).toBe('module a\\u001b[2J\\u000ab\\u202e\\u061cc\\u009b')
    expect(details.module).toBe('a\x1b[2J\nb\u202e\u061cc\x9b')
  })

  it('shortens a long name and keeps the text around it', () => {
    // Quadratic work would be 10^14 steps here: the test would not end.
    const name = 'layer.'.repeat(3_000_000)
    const { message } = new FourierFTError('INVALID_OPTION', `model.onnx: module ${name}: not found; do this`)
    expect(message.length).toBeLessThan(400)
    expect(message).toMatch(/^model\.onnx: module layer\.layer.*….*layer\.: not found; do this$/)
  })

  it('has a maximum length', () => {
    const message = printable(`first ${'a b '.repeat(1_000_000)} last`)
    expect(message.length).toBeLessThanOrEqual(4000)
    expect(message).toMatch(/^first .* last$/)
  })

  it('of usual length stays unchanged in any language', () => {
    for (const text of ['', 'expected 3 × 4, “so”: größer, 漢字, 😀', `a/${'b'.repeat(230)}`])
      expect(printable(text)).toBe(text)
  })
})

describe('advice', () => {
  it('is a field, and ends the message', () => {
    const error = new FourierFTError('SHAPE_UNKNOWN', 'module a: its shape is unknown', {
      advice: 'give the shape; [out, in]',
      module: 'a',
    })
    expect(error.problem).toBe('module a: its shape is unknown')
    expect(error.advice).toBe('give the shape; [out, in]')
    expect(error.message).toBe('module a: its shape is unknown; give the shape; [out, in]')
  })

  it('is undefined if the error has no advice', () => {
    const error = new FourierFTError('NOT_FINITE', 'c: expected finite numbers')
    expect([error.advice, error.problem]).toEqual([undefined, error.message])
  })
})
