/** The short form of the chaos test: seconds of load, and 300 adapters of twelve kinds for each model. */
import { expect, test } from 'vitest'
import { chooseSeed, expectSound, summary } from './chaos/expect-sound.js'
import { runChaos } from './chaos.js'

test('under load, changing files, hostile files and clients that give up, every answer is right', async () => {
  const report = await runChaos({
    seed: chooseSeed(),
    population: { count: 300, seeds: 4 },
    seconds: 6,
    crowdedSeconds: 2,
  })
  console.log(summary(report))
  expectSound(report)
  expect(report.compared).toBeGreaterThan(100)
})
