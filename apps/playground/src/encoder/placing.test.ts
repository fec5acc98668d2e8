import { describe, expect, it } from 'vitest'
import type { Mail } from './mail.js'
import { Placing } from './placing.js'

const mail = (text: string, isSpam: boolean, isKnown: boolean): Mail => ({ text, isSpam, isKnown })

describe('Placing', () => {
  const mails = [
    mail('hello', false, true),
    mail('hi', false, true),
    mail('buy', true, true),
    mail('win', true, false),
  ]
  // The mean direction of the first two is [1, 0].
  const placing = new Placing(mails, [
    [0.8, 0.6],
    [0.8, -0.6],
    [0, 1],
    [0.6, 0.8],
  ])

  it('says how much nearer a text is to spam, from known mails alone', () => {
    expect(placing.score([0, 1])).toBeCloseTo(1, 12)
    expect(placing.score([1, 0])).toBeCloseTo(-1, 12)
    for (const [i, score] of [-0.2, -1.4, 1, 0.2].entries()) expect(placing.scores[i]).toBeCloseTo(score, 12)
  })

  it('finds the nearest mails, without the text itself', () => {
    const found = placing.nearest([0.6, 0.8], 2, 'win')
    expect(found.map(({ mail }) => mail.text)).toEqual(['hello', 'buy'])
    expect(found[0]?.similarity).toBeCloseTo(0.96, 12)
  })
})
