import { describe, expect, it } from 'vitest'
import { predictions, score } from './score.js'

describe('score', () => {
  it('gives the mean cross-entropy and the accuracy', () => {
    const { loss, accuracy } = score([Math.log(3), 0, 0, Math.log(3)], [0, 0])
    // Probabilities of the labels: 3/4 and 1/4.
    expect(loss).toBeCloseTo(-(Math.log(3 / 4) + Math.log(1 / 4)) / 2, 14)
    expect(accuracy).toBe(0.5)
  })

  it('does not overflow for large logits', () => {
    expect(score([1000, 0], [0])).toEqual({ loss: 0, accuracy: 1 })
    expect(score([1000, 0], [1])).toEqual({ loss: 1000, accuracy: 0 })
  })
})

describe('predictions', () => {
  it('takes the largest logit of each row, the first one of equals', () => {
    expect([...predictions([1, 3, 2, 5, 5, 0], 2)]).toEqual([1, 0])
  })
})
