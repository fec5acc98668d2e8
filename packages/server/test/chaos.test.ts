/** The short form of the chaos test: some seconds of load. */
import { writeFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { runChaos } from './chaos.js'

test('try', async () => {
  const seed = Number(process.env.FOURIERFT_CHAOS_SEED ?? Date.now() % 2 ** 31)
  const begin = performance.now()
  const report = await runChaos({ seed, seconds: 9, crowdedSeconds: 3 })
  const { problems, ...rest } = report
  console.log(
    `seed ${seed}`,
    JSON.stringify(rest, null, 1),
    problems.length,
    (performance.now() - begin) / 1000,
  )
  console.log(
    problems
      .slice(0, 25)
      .map((p) => p.slice(0, 1200))
      .join('\n\n'),
  )
  writeFileSync('/tmp/chaos-problems.txt', problems.join('\n\n'))
  expect(problems.length).toBe(0)
})
