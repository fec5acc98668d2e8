import { describe, expect, it } from 'vitest'
import type { Mail } from './mail.js'
import { MailComparison } from './mail-comparison.js'

const mail = (text: string, isSpam: boolean, isKnown: boolean): Mail => ({ text, isSpam, isKnown })

describe('MailComparison', () => {
  const mails = [
    mail('hello', false, true),
    mail('hi', false, true),
    mail('buy', true, true),
    mail('win', true, false),
  ]
  // The mean direction of the first two is [1, 0].
  const comparison = new MailComparison(mails, [
    [0.8, 0.6],
    [0.8, -0.6],
    [0, 1],
    [0.6, 0.8],
  ])

  it('scores a text by the known mails only', () => {
    expect(comparison.score([0, 1])).toBeCloseTo(1, 12)
    expect(comparison.score([1, 0])).toBeCloseTo(-1, 12)
    for (const [i, score] of [-0.2, -1.4, 1, 0.2].entries())
      expect(comparison.scores[i]).toBeCloseTo(score, 12)
  })

  it('finds the nearest mails, without the text itself', () => {
    const found = comparison.nearest([0.6, 0.8], 2, 'win')
    expect(found.map(({ mail }) => mail.text)).toEqual(['hello', 'buy'])
    expect(found[0]?.similarity).toBeCloseTo(0.96, 12)
  })
})
