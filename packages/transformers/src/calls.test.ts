/** Calls and methods do not wait for each other: a call keeps the adapters and sessions it started with, and the sessions close after it. */
import { createRequire } from 'node:module'
import { BertForSequenceClassification, env, LogLevel, Tensor } from '@huggingface/transformers'
import type * as Ort from 'onnxruntime-common'
import { afterEach, beforeAll, expect, test, vi } from 'vitest'
import { adapterFor } from './__fixtures__/tiny-model.js'
import { withTwoSteps } from './__fixtures__/two-steps.js'
import { writeTinyModels } from './__fixtures__/write-tiny-model.js'
import { attach } from './attach.js'

const MODELS = writeTinyModels()
beforeAll(() => {
  env.localModelPath = MODELS
  env.allowRemoteModels = false
  // transformers.js would log the inputs of failed runs.
  env.logLevel = LogLevel.NONE
})
afterEach(() => vi.restoreAllMocks())

const require = createRequire(createRequire(import.meta.url).resolve('@huggingface/transformers'))
const { InferenceSession }: typeof Ort = require('onnxruntime-node')

const ids = BigInt64Array.of(2n, 4n, 5n, 3n)
const inputs = {
  input_ids: new Tensor('int64', ids, [1, 4]),
  attention_mask: new Tensor(
    'int64',
    ids.map(() => 1n),
    [1, 4],
  ),
}

async function tinyBert() {
  const model = withTwoSteps(
    await BertForSequenceClassification.from_pretrained('tiny-bert', { dtype: 'fp32' }),
  )
  const logits = async () => Array.from((await model.forward(inputs)).logits.data as Float32Array)
  return { model, logits }
}

/** Waits until the assertion holds. The timeout allows for a busy machine. */
const eventually = (assertion: () => void) => vi.waitFor(assertion, { timeout: 300_000 })

/** Starts to count sessions. @returns a function that returns the number of sessions that were created since then and are open */
function openSessions(): () => number {
  let open = 0
  const { create } = InferenceSession
  vi.spyOn(InferenceSession, 'create').mockImplementation(async (...args: unknown[]) => {
    const session: Ort.InferenceSession = await Reflect.apply(create, InferenceSession, args)
    const release = session.release.bind(session)
    session.release = () => {
      open--
      return release()
    }
    open++
    return session
  })
  return () => open
}

test('calls continue while sessions are replaced, merged and restored; old sessions close after their calls', async () => {
  const open = openSessions()
  const { model, logits } = await tinyBert()
  const base = await logits()
  const adapters = await attach(model)
  const ends: string[] = []
  /** Starts a call. Its first step has ended when this resolves; its second step starts after `end()`. */
  const startCall = async (name: string) => {
    let [reached, end] = [() => {}, () => {}]
    const firstStep = new Promise<void>((done) => {
      reached = done
    })
    const secondStep = new Promise<void>((done) => {
      end = done
    })
    const call = model
      .twice(inputs, async () => {
        reached()
        await secondStep
      })
      .then(({ logits }) => {
        ends.push(name)
        return Array.from(logits?.data as Float32Array)
      })
    await firstStep
    return { call, end }
  }
  const first = await startCall('first')
  await adapters.loadAdapter(adapterFor(1))
  const adapted = await logits()
  expect(adapted).not.toEqual(base)
  const second = await startCall('second')
  await adapters.mergeAdapter()
  const merged = await logits()
  const third = await startCall('third')
  await adapters.detach()
  expect(await logits()).toEqual(base)
  // The original session (of the first call), the one with branches, the merged one, and the restored one.
  expect(open()).toBe(4)
  expect(ends).toEqual([])
  for (const { end } of [first, second, third]) end()
  expect(await first.call).toEqual(base)
  expect(await second.call).toEqual(adapted)
  expect(await third.call).toEqual(merged)
  await eventually(() => expect(open()).toBe(1))
  await model.dispose()
  expect(open()).toBe(0)
})

test('a call fails if the model is disposed of during the call, and all sessions close', async () => {
  const open = openSessions()
  const { model } = await tinyBert()
  const adapters = await attach(model)
  await adapters.loadAdapter(adapterFor(1))
  const call = model.twice(inputs, () => model.dispose())
  await expect(call).rejects.toThrow(/disposed of/)
  expect(open()).toBe(0)
})

test('closes the old session first if no call is running, and reopens it if the new one cannot be created', async () => {
  const { model, logits } = await tinyBert()
  const base = await logits()
  const adapters = await attach(model)
  const open = openSessions()
  await adapters.loadAdapter(adapterFor(1))
  expect(open()).toBe(1)
  const adapted = await logits()
  for (const method of ['detach', 'mergeAndUnload'] as const) {
    vi.mocked(InferenceSession.create).mockImplementationOnce(async () => {
      throw new Error('out of memory')
    })
    await expect(adapters[method]()).rejects.toThrow('out of memory')
    expect(adapters.activeAdapters).toEqual(['default'])
    expect(await logits()).toEqual(adapted)
  }
  await adapters.detach()
  expect(await logits()).toEqual(base)
  expect(open()).toBe(1)
  await model.dispose()
})

test('rejects one of two concurrent attach calls', async () => {
  const { model } = await tinyBert()
  const [first, second] = await Promise.allSettled([attach(model), attach(model)])
  expect([first.status, second.status]).toEqual(['fulfilled', 'rejected'])
  await model.dispose()
})
