/** Schedules compared with those of Transformers (`__fixtures__/make-vectors.py`). */
import { expect, test } from 'vitest'
import vectors from './__fixtures__/vectors.json' with { type: 'json' }
import { cosineSchedule, linearSchedule } from './schedule.js'

// A quotient and, for the cosine schedule, a cosine of an argument up to 1.5π; each is rounded to a few times 1e-15.
const LIMIT = 4e-15

for (const [name, create, recorded] of [
  ['linear', linearSchedule, vectors.linear],
  ['cosine', cosineSchedule, vectors.cosine],
] as const) {
  for (const { steps, multipliers, ...options } of recorded) {
    test(`${name}: equals the schedule of Transformers for ${JSON.stringify(options)}`, () => {
      const schedule = create(options)
      expect(steps.length).toBeGreaterThan(0)
      for (const [index, step] of steps.entries()) {
        expect(
          Math.abs(schedule(step) - (multipliers[index] ?? Number.NaN)),
          `step ${step}`,
        ).toBeLessThanOrEqual(LIMIT)
      }
    })
  }

  test.each([
    { warmupSteps: -1, totalSteps: 10 },
    { warmupSteps: 1.5, totalSteps: 10 },
    { warmupSteps: 0, totalSteps: 0 },
    { warmupSteps: 0, totalSteps: Number.NaN },
  ])(`${name}: rejects %j`, (options) => {
    expect(() => create(options)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }))
  })
}
