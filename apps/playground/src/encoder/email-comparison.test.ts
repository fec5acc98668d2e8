import { describe, expect, it } from 'vitest'
import type { Email } from './email.js'
import { EmailComparison } from './email-comparison.js'

const email = (text: string, isSpam: boolean, isKnown: boolean): Email => ({ text, isSpam, isKnown })

describe('EmailComparison', () => {
  const emails = [
    email('hello', false, true),
    email('hi', false, true),
    email('buy', true, true),
    email('win', true, false),
  ]
  // The mean direction of the first two is [1, 0].
  const comparison = new EmailComparison(emails, [
    [0.8, 0.6],
    [0.8, -0.6],
    [0, 1],
    [0.6, 0.8],
  ])

  it('scores a text by the known emails only', () => {
    expect(comparison.score([0, 1])).toBeCloseTo(1, 12)
    expect(comparison.score([1, 0])).toBeCloseTo(-1, 12)
    for (const [i, score] of [-0.2, -1.4, 1, 0.2].entries())
      expect(comparison.scores[i]).toBeCloseTo(score, 12)
  })

  it('finds the nearest emails, without the text itself', () => {
    const found = comparison.nearest([0.6, 0.8], 2, 'win')
    expect(found.map(({ email }) => email.text)).toEqual(['hello', 'buy'])
    expect(found[0]?.similarity).toBeCloseTo(0.96, 12)
  })
})
