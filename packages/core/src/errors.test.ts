import { describe, expect, it } from 'vitest'
import { FourierFTError } from './errors.js'

const messageOf = (text: string) => new FourierFTError('INVALID_OPTION', text).message

describe('messages', () => {
  it('stay as they are written', () => {
    const text = `layer 'a.b': expected [3, 4];\nreceived “é”, ${'name '.repeat(100)}`
    expect(messageOf(text)).toBe(text)
  })

  it('cut long names and keep what follows them', () => {
    const message = messageOf(`tensor ${'n'.repeat(20_000)}: expected F32`)
    expect(message.length).toBeLessThan(500)
    expect(message).toMatch(
      /^tensor nnn.*\(20000 characters\).*nnn: expected F32$|^tensor nnn.*expected F32$/,
    )
  })

  it('end, whatever is in them', () => {
    for (const text of ['x'.repeat(2e7), 'x y '.repeat(5e6), '\0'.repeat(2e7)]) {
      const message = messageOf(`${text}; do this`)
      expect(message.length).toBeLessThan(30_000)
      expect(message).toMatch(/do this$/)
    }
  })

  it('hold no characters that a terminal obeys', () => {
    expect(messageOf('a\u001b[31mb\u202ec\rd\u009b\u2028')).toBe(
      'a\\u001b[31mb\\u202ec\\u000dd\\u009b\\u2028',
    )
  })
})
