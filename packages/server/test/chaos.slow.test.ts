/** The chaos test with 2,000 adapters of 60 kinds, and five minutes of load. `FOURIERFT_CHAOS_SECONDS` sets another time. */
import { expect, test } from 'vitest'
import { chooseSeed, expectSound, summary } from './chaos/expect-sound.js'
import { runChaos } from './chaos.js'

const seconds = Number(process.env.FOURIERFT_CHAOS_SECONDS ?? 300)

// Without a time limit, because the answers of each version alone take a while.
test('minutes of load, with 2,000 adapters of 20 seeds and 3 sets of targets', { timeout: 0 }, async () => {
  const report = await runChaos({
    seed: chooseSeed(),
    population: { count: 2000, seeds: 20 },
    seconds,
    crowdedSeconds: seconds / 10,
  })
  console.log(summary(report))
  expectSound(report)
  expect(report.compared).toBeGreaterThan(1000)
})
