/** Reading a large adapter lets the event loop run in between, and ends when the caller's signal is aborted. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { createAdapter, createConfig, loadAdapter } from '../../src/index.js'

const shapes = Object.fromEntries(
  Array.from({ length: 20 }, (_, i) => [`layers.${i}.query`, [6, 4] as const]),
)
/** An adapter with many patterns: one step for each pattern and module. */
const slow = () => {
  const { config, model } = createAdapter(createConfig({ nFrequency: 3 }), shapes).toBytes()
  const patterns = Object.fromEntries(Array.from({ length: 400 }, (_, i) => [`[a-z]{100}x${i}`, 2]))
  const fields = { ...JSON.parse(new TextDecoder().decode(config)), n_frequency_pattern: patterns }
  return { config: new TextEncoder().encode(JSON.stringify(fields)), model }
}
const STEPS = 400 * 20
/** Steps between two pauses, for the clock of this test. */
const STEPS_PER_PAUSE = 120

beforeEach(() => {
  // A clock that counts steps, so that the pauses do not depend on the machine: the work pauses every 12 ms.
  let now = 0
  vi.spyOn(performance, 'now').mockImplementation(() => {
    now += 12 / STEPS_PER_PAUSE
    return now
  })
})
afterEach(() => {
  vi.restoreAllMocks()
})

it('lets timers run', async () => {
  let ticks = 0
  let timer = setTimeout(function tick() {
    ticks++
    timer = setTimeout(tick)
  })
  const adapter = await loadAdapter(slow())
  clearTimeout(timer)
  expect(adapter.modules.size).toBe(20)
  // At least one tick for each pause, of which the last may come too late.
  expect(ticks).toBeGreaterThanOrEqual(Math.floor(STEPS / (STEPS_PER_PAUSE + 2)) - 1)
})

it('ends at the signal', async () => {
  const controller = new AbortController()
  setTimeout(() => controller.abort(new Error('enough')))
  await expect(loadAdapter(slow(), { signal: controller.signal })).rejects.toThrow('enough')
})
