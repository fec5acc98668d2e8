import { describe, expect, it } from 'vitest'
import { spread, summarize } from './summary.js'

describe('spread', () => {
  it('gives the mean and the sample standard deviation', () => {
    expect(spread([1, 2, 3])).toEqual({ mean: 2, deviation: 1 })
    expect(spread([5])).toEqual({ mean: 5, deviation: 0 })
  })
})

describe('summarize', () => {
  const run = (loss: number) => ({
    method: 'LoRA',
    parameters: 3072,
    bytes: 14000,
    seconds: 10 * loss,
    curve: [
      { step: 0, loss: 4, accuracy: 0.3 },
      { step: 9, loss, accuracy: 1 - loss },
    ],
  })

  it('takes the ends of the curves as results and averages each step', () => {
    const summary = summarize([run(0.25), run(0.75)])
    expect(summary?.loss.mean).toBe(0.5)
    expect(summary?.accuracy.mean).toBe(0.5)
    expect(summary?.seconds.mean).toBe(5)
    expect(summary?.curve.map(({ step, loss }) => [step, loss.mean])).toEqual([
      [0, 4],
      [9, 0.5],
    ])
  })

  it('gives undefined without runs', () => {
    expect(summarize([])).toBeUndefined()
  })
})
