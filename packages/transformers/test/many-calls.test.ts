/** Five hundred swaps during 2,000 calls at once: every answer belongs to exactly one adapter, no session is made, and memory stays flat. */
import { createRequire } from 'node:module'
import { env, pipeline } from '@huggingface/transformers'
import type * as Ort from 'onnxruntime-common'
import { beforeAll, expect, test } from 'vitest'
import { adapterFor } from '../src/__fixtures__/tiny-model.js'
import { writeTinyModels } from '../src/__fixtures__/write-tiny-model.js'
import { attach } from '../src/attach.js'

const SWAPS = 500
const CALLS_EACH = 4
/** The first fills what is kept for good: pools of memory, compiled code. */
const ROUNDS = 3

const MODELS = writeTinyModels()
beforeAll(() => {
  env.localModelPath = MODELS
  env.allowRemoteModels = false
})

test.each([true, false])('native: %s', { timeout: 300_000 }, async (native) => {
  const require = createRequire(createRequire(import.meta.url).resolve('@huggingface/transformers'))
  const { InferenceSession }: typeof Ort = require('onnxruntime-node')
  const extract = await pipeline('feature-extraction', 'tiny-bert', { dtype: 'fp32' })
  const adapters = await attach(extract, { native })
  const names = ['a', 'b', 'c', 'd']
  for (const [seed, name] of names.entries()) await adapters.loadAdapter(adapterFor(seed + 1), { name })
  const answer = async () => Array.from((await extract('few words of a model')).data as Float32Array).join()
  const expected: string[] = []
  for (const name of names) {
    adapters.setAdapter(name)
    expected.push(await answer())
  }
  expect(new Set(expected).size).toBe(names.length)

  const { create } = InferenceSession
  let made = 0
  Object.assign(InferenceSession, {
    create: (...args: Parameters<typeof create>) => {
      made++
      return create.apply(InferenceSession, args)
    },
  })
  const wrong: number[] = []
  const memory: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const calls: Promise<void>[] = []
    for (let swap = 0; swap < SWAPS; swap++) {
      const which = (swap * 7) % names.length
      adapters.setAdapter(names[which])
      for (let call = 0; call < CALLS_EACH; call++)
        calls.push(
          answer().then((found) => {
            if (found !== expected[which]) wrong.push(swap)
          }),
        )
    }
    await Promise.all(calls)
    memory.push(process.memoryUsage().rss)
  }
  Object.assign(InferenceSession, { create })
  expect(wrong).toEqual([])
  expect(made).toBe(0)
  // What each of 2,000 calls leaves behind, if it is but 32 KB, is 64 MB after a round.
  const [, second = 0, third = 0] = memory
  expect(third - second).toBeLessThan(64 * 2 ** 20)
  await extract.dispose()
})
