/** Rounds of 2,000 concurrent calls and 500 switches: each output belongs to the right adapter, no session is created, and no memory leaks. */
import { createRequire } from 'node:module'
import { env, pipeline } from '@huggingface/transformers'
import type * as Ort from 'onnxruntime-common'
import { beforeAll, expect, test } from 'vitest'
import { liveBytes } from '../../../test/memory.js'
import { adapterFor } from '../src/__fixtures__/tiny-model.js'
import { writeTinyModels } from '../src/__fixtures__/write-tiny-model.js'
import { attach } from '../src/attach.js'

const SWITCHES = 500
const CALLS_PER_SWITCH = 4
/** The first round fills caches: compiled code, for example. */
const ROUNDS = 3

const MODELS = writeTinyModels()
beforeAll(() => {
  env.localModelPath = MODELS
  env.allowRemoteModels = false
})

test.each([true, false])(
  'concurrent calls keep their adapters and leak no memory; native: %s',
  async (native) => {
    const require = createRequire(createRequire(import.meta.url).resolve('@huggingface/transformers'))
    const { InferenceSession }: typeof Ort = require('onnxruntime-node')
    const extract = await pipeline('feature-extraction', 'tiny-bert', { dtype: 'fp32' })
    const adapters = await attach(extract, { native })
    const names = ['a', 'b', 'c', 'd']
    for (const [seed, name] of names.entries()) await adapters.loadAdapter(adapterFor(seed + 1), { name })
    const outputOf = async () =>
      Array.from((await extract('few words of a model')).data as Float32Array).join()
    const expected: string[] = []
    for (const name of names) {
      adapters.setAdapter(name)
      expected.push(await outputOf())
    }
    expect(new Set(expected).size).toBe(names.length)

    const { create } = InferenceSession
    let created = 0
    Object.assign(InferenceSession, {
      create: (...args: Parameters<typeof create>) => {
        created++
        return create.apply(InferenceSession, args)
      },
    })
    const wrong: number[] = []
    const memory: number[] = []
    for (let round = 0; round < ROUNDS; round++) {
      const calls: Promise<void>[] = []
      for (let i = 0; i < SWITCHES; i++) {
        const which = (i * 7) % names.length
        adapters.setAdapter(names[which])
        for (let call = 0; call < CALLS_PER_SWITCH; call++)
          calls.push(
            outputOf().then((output) => {
              if (output !== expected[which]) wrong.push(i)
            }),
          )
      }
      await Promise.all(calls)
      memory.push(liveBytes())
    }
    Object.assign(InferenceSession, { create })
    expect(wrong).toEqual([])
    expect(created).toBe(0)
    const [, second = 0, third = 0] = memory
    // 256 bytes for each call. A call whose output is not freed would add 900.
    expect(third - second).toBeLessThan(SWITCHES * CALLS_PER_SWITCH * 256)
    await extract.dispose()
  },
)
