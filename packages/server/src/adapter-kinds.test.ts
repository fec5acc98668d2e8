/** Adapters that differ: 2,000 of them, with 20 seeds and 3 sets of targets. */
import { setMaxListeners } from 'node:events'
import { type Adapter, createAdapter, createConfig } from '@fourierft/core'
import { attach } from '@fourierft/transformers'
import { env, LogLevel, pipeline } from '@huggingface/transformers'
import { expect, test } from 'vitest'
import { OUTPUT, QUERY, SHAPES } from '../../transformers/src/__fixtures__/tiny-model.js'
import { writeTinyModels } from '../../transformers/src/__fixtures__/write-tiny-model.js'
import type { Pipe } from './engine.js'
import { Metrics } from './metrics.js'
import { createEngine } from './model-engine.js'
import { functionResolver } from './resolver/function.js'

env.localModelPath = writeTinyModels()
env.allowRemoteModels = false
env.logLevel = LogLevel.ERROR

const SEEDS = 20
const TARGETS = [[QUERY], [OUTPUT], [QUERY, OUTPUT]]
const TEXT = 'a small model of few words'
const signal = new AbortController().signal
setMaxListeners(0, signal)

/** Adapter i has the seed i mod 20, and the targets of i mod 3. */
function adapterAt(i: number): Adapter {
  const config = createConfig({
    nFrequency: 24,
    scaling: 30,
    initWeights: false,
    randomLocSeed: 1 + (i % SEEDS),
  })
  const shapes = Object.fromEntries(TARGETS[i % TARGETS.length].map((module) => [module, SHAPES[module]]))
  return createAdapter(config, shapes, { initialSeed: 1000 + i })
}

const open = () => pipeline('text-classification', 'tiny-bert', { dtype: 'fp32' }) as unknown as Promise<Pipe>
const scoreIn = (answer: unknown) => (answer as { score: number }[])[0].score

async function openEngine(adapters: readonly Adapter[], maxGroups: number) {
  const pipe = await open()
  const metrics = new Metrics()
  const resolver = functionResolver((name) => adapters[Number(name.slice(1))])
  const engine = await createEngine(pipe, { name: 'tiny', resolver, maxGroups, maxQueue: 4000, metrics })
  return {
    engine,
    ask: async (i: number) => scoreIn(await engine.call(`a${i}`, (view) => view(TEXT), { signal })),
    groups: async () => (await metrics.groups.get()).values[0].value,
    close: async () => {
      await engine.close()
      await pipe.model.dispose()
    },
  }
}

test('2,000 adapters with 20 seeds and 3 sets of targets need 20 graphs, and each request gets its own adapter', async () => {
  const adapters = Array.from({ length: 2000 }, (_, i) => adapterAt(i))
  const { ask, groups, close } = await openEngine(adapters, SEEDS)
  const answers = await Promise.all(adapters.map((_, i) => ask(i)))
  expect(await groups()).toBe(SEEDS)
  await close()

  const alone = await open()
  const attached = await attach(alone as never)
  // One adapter of each kind, and some more.
  for (let i = 0; i < 2000; i += 13) {
    await attached.loadAdapter(adapters[i], { name: 'one' })
    expect(Math.abs(answers[i] - scoreIn(await alone(TEXT)))).toBeLessThan(1000 * 2 ** -24)
    attached.deleteAdapter('one')
  }
  expect(new Set(answers).size).toBeGreaterThan(1900)
  await attached.detach()
  await alone.model.dispose()
})

test('more kinds than graphs are refused with the reason, and the others are served', async () => {
  const adapters = Array.from({ length: 60 }, (_, i) => adapterAt(i))
  const { ask, groups, close } = await openEngine(adapters, 4)
  const outcomes = await Promise.allSettled(adapters.map((_, i) => ask(i)))
  const refused = outcomes.filter((outcome) => outcome.status === 'rejected').map(({ reason }) => reason)
  expect(await groups()).toBe(4)
  expect(refused.length).toBe(60 - 4 * TARGETS.length)
  for (const error of refused) {
    expect(error).toMatchObject({ code: 'too_many_groups', status: 409 })
    expect(error.message).toContain('random_loc_seed')
  }
  await close()
})
