/** Calls and verbs wait for each other nowhere: each call ends with what it began with, on sessions that close after it. */
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
  // What a refused run was given is no news here.
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

/** How many sessions that are made from now on are open. */
function openSessions(): () => number {
  let open = 0
  const { create } = InferenceSession
  vi.spyOn(InferenceSession, 'create').mockImplementation(async (...given: unknown[]) => {
    const session: Ort.InferenceSession = await Reflect.apply(create, InferenceSession, given)
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

test('calls go on while sessions are made anew, merged and given back; the old ones close after them', async () => {
  const open = openSessions()
  const { model, logits } = await tinyBert()
  const base = await logits()
  const adapters = await attach(model)
  const ends: string[] = []
  /** A call that ends its first step now, and its second when it is told to. */
  const held = async (name: string) => {
    let [begun, end] = [() => {}, () => {}]
    const isBegun = new Promise<void>((done) => {
      begun = done
    })
    const isEnded = new Promise<void>((done) => {
      end = done
    })
    const call = model
      .twice(inputs, async () => {
        begun()
        await isEnded
      })
      .then(({ logits }) => {
        ends.push(name)
        return Array.from(logits?.data as Float32Array)
      })
    await isBegun
    return { call, end }
  }
  const first = await held('first')
  await adapters.loadAdapter(adapterFor(1))
  const adapted = await logits()
  expect(adapted).not.toEqual(base)
  const second = await held('second')
  await adapters.mergeAdapter()
  const merged = await logits()
  const third = await held('third')
  await adapters.detach()
  expect(await logits()).toEqual(base)
  // transformers.js's own of the first call, the one with branches, the merged one, and the one that was given back.
  expect(open()).toBe(4)
  expect(ends).toEqual([])
  for (const { end } of [first, second, third]) end()
  expect(await first.call).toEqual(base)
  expect(await second.call).toEqual(adapted)
  expect(await third.call).toEqual(merged)
  await vi.waitFor(() => expect(open()).toBe(1))
  await model.dispose()
  expect(open()).toBe(0)
})

test('a model that is disposed of inside a call: the call says so, nothing waits for it', async () => {
  const open = openSessions()
  const { model } = await tinyBert()
  const adapters = await attach(model)
  await adapters.loadAdapter(adapterFor(1))
  const call = model.twice(inputs, () => model.dispose())
  await expect(call).rejects.toThrow(/disposed of/)
  expect(open()).toBe(0)
})

test('while nothing runs the old session is closed first, and opened again where the new one cannot be made', async () => {
  const { model, logits } = await tinyBert()
  const base = await logits()
  const adapters = await attach(model)
  const open = openSessions()
  await adapters.loadAdapter(adapterFor(1))
  expect(open()).toBe(1)
  const adapted = await logits()
  for (const verb of ['detach', 'mergeAndUnload'] as const) {
    vi.mocked(InferenceSession.create).mockImplementationOnce(async () => {
      throw new Error('out of memory')
    })
    await expect(adapters[verb]()).rejects.toThrow('out of memory')
    expect(adapters.activeAdapters).toEqual(['default'])
    expect(await logits()).toEqual(adapted)
  }
  await adapters.detach()
  expect(await logits()).toEqual(base)
  expect(open()).toBe(1)
  await model.dispose()
})

test('two attachments at once: one is refused', async () => {
  const { model } = await tinyBert()
  const [one, other] = await Promise.allSettled([attach(model), attach(model)])
  expect([one.status, other.status]).toEqual(['fulfilled', 'rejected'])
  await model.dispose()
})
