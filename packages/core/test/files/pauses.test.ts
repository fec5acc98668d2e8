/** Reading a large adapter lets others run in between, and ends when the caller's signal says so. */
import { expect, it } from 'vitest'
import { createAdapter, createConfig, loadAdapter } from '../../src/index.js'

const shapes = Object.fromEntries(
  Array.from({ length: 20 }, (_, i) => [`layers.${i}.query`, [6, 4] as const]),
)
/** Patterns that have to be compiled: some hundred milliseconds. */
const slow = () => {
  const { config, model } = createAdapter(createConfig({ nFrequency: 3 }), shapes).toBytes()
  const patterns = Object.fromEntries(Array.from({ length: 400 }, (_, i) => [`[a-z]{100}x${i}`, 2]))
  const fields = { ...JSON.parse(new TextDecoder().decode(config)), n_frequency_pattern: patterns }
  return { config: new TextEncoder().encode(JSON.stringify(fields)), model }
}

it('lets timers run', async () => {
  let ticks = 0
  const timer = setInterval(() => ticks++, 1)
  const adapter = await loadAdapter(slow())
  clearInterval(timer)
  expect(adapter.modules.size).toBe(20)
  expect(ticks).toBeGreaterThan(3)
})

it('ends at the signal', async () => {
  const controller = new AbortController()
  setTimeout(() => controller.abort(new Error('enough')), 1)
  await expect(loadAdapter(slow(), { signal: controller.signal })).rejects.toThrow('enough')
})
