/** The end of an engine, and graphs that open beside running calls. */
import { setMaxListeners } from 'node:events'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { createAdapter, createConfig } from '@fourierft/core'
import { env, pipeline } from '@huggingface/transformers'
import type { InferenceSession as Session } from 'onnxruntime-common'
import { afterEach, expect, test, vi } from 'vitest'
import { OUTPUT, QUERY, SHAPES } from '../../transformers/src/__fixtures__/tiny-model.js'
import { writeTinyModels } from '../../transformers/src/__fixtures__/write-tiny-model.js'
import type { Pipe } from './engine.js'
import { createEngine } from './model-engine.js'
import { functionResolver } from './resolver/function.js'

/** The class that transformers.js uses. */
const { resolve } = createRequire(import.meta.url)
const { InferenceSession } = createRequire(resolve('@huggingface/transformers'))('onnxruntime-node') as {
  InferenceSession: typeof Session
}
const FIXTURES = fileURLToPath(new URL('../../transformers/test/__fixtures__', import.meta.url))
const TINY = writeTinyModels()
env.allowRemoteModels = false
const signal = new AbortController().signal
setMaxListeners(0, signal)
afterEach(() => vi.restoreAllMocks())

async function openPipe(task: string, folder: string, model: string): Promise<Pipe> {
  env.localModelPath = folder
  return (await pipeline(task as 'text-generation', model, { dtype: 'fp32' })) as unknown as Pipe
}

const adapters = Object.fromEntries(
  [
    ['common', 1, [QUERY]],
    ['wider', 1, [QUERY, OUTPUT]],
    ['odd', 2, [QUERY]],
  ].map(([name, randomLocSeed, modules]) => {
    const config = createConfig({
      nFrequency: 24,
      scaling: 30,
      initWeights: false,
      randomLocSeed: randomLocSeed as number,
    })
    const shapes = Object.fromEntries((modules as string[]).map((module) => [module, SHAPES[module]]))
    return [name, createAdapter(config, shapes, { initialSeed: 1 })]
  }),
)

async function openTiny() {
  const pipe = await openPipe('text-classification', TINY, 'tiny-bert')
  const engine = await createEngine(pipe, {
    name: 'tiny',
    native: false,
    resolver: functionResolver((name) => adapters[name]),
  })
  return {
    pipe,
    engine,
    ask: (name: string | null) => engine.call(name, (view) => view('a small model'), { signal }),
  }
}

/** Holds the creation of sessions until `release` is called. */
function holdOpenings(): { readonly began: () => boolean; readonly release: () => void } {
  const create = InferenceSession.create
  let release: () => void = () => undefined
  const released = new Promise<void>((resolve) => {
    release = resolve
  })
  const spy = vi.spyOn(InferenceSession, 'create').mockImplementation((async (...args: never[]) => {
    await released
    return (create as (...args: never[]) => unknown).apply(InferenceSession, args)
  }) as never)
  return { began: () => spy.mock.calls.length > 0, release: () => release() }
}

const turn = () => new Promise((done) => setImmediate(done))

test.each([
  ['the first adapter', [], 'common', []],
  ['an adapter with more target layers', ['common'], 'wider', ['common']],
  ['an adapter of another kind', ['common'], 'odd', ['common']],
])('%s opens a graph while others are answered', async (_, before, opening, others) => {
  const { pipe, engine, ask } = await openTiny()
  for (const name of before) await ask(name)
  const held = holdOpenings()
  let isOpen = false
  const waiting = ask(opening).then(() => {
    isOpen = true
  })
  while (!held.began()) await turn()
  for (const name of [null, ...others]) await ask(name)
  expect(isOpen).toBe(false)
  held.release()
  await waiting
  await engine.close()
  await pipe.model.dispose()
})

test('a call that is still there at the end fails: it does not go on with another adapter', async () => {
  const pipe = await openPipe('text-generation', FIXTURES, 'gpt2')
  const engine = await createEngine(pipe, {
    name: 'gpt2',
    resolver: functionResolver((name) => `${FIXTURES}/gpt2/${name}`),
  })
  const generate = (name: string | null) =>
    engine.call(
      name,
      (view) => view('the cat', { max_new_tokens: 60, min_new_tokens: 60, do_sample: false }),
      { signal },
    )
  await engine.prepare('adapter-a', { signal })
  const running = generate('adapter-a')
  for (let i = 0; i < 20; i++) await turn()
  const closing = engine.close(0)
  await expect(running).rejects.toMatchObject({ code: 'shutting_down', status: 503 })
  await closing
  expect(engine.isReady).toBe(false)
  // The pipeline works as before.
  expect(await pipe('the cat', { max_new_tokens: 2 })).toBeDefined()
  await pipe.model.dispose()
})

test('no session stays open after the end, also if a graph was being opened', async () => {
  const created: Session[] = []
  const released = new Set<Session>()
  const create = InferenceSession.create
  vi.spyOn(InferenceSession, 'create').mockImplementation((async (...args: never[]) => {
    const session = (await (create as (...args: never[]) => unknown).apply(InferenceSession, args)) as Session
    created.push(session)
    const release = session.release
    session.release = async () => {
      released.add(session)
      await release.call(session)
    }
    return session
  }) as never)
  const { pipe, engine, ask } = await openTiny()
  await ask('common')
  await ask('odd')
  const opening = ask('wider').catch((error: unknown) => error)
  await turn()
  await engine.close(0)
  await opening
  await pipe.model.dispose()
  for (let i = 0; i < 20; i++) await turn()
  expect(created.length).toBeGreaterThanOrEqual(3)
  expect(created.filter((session) => !released.has(session))).toEqual([])
})

test('an engine whose model was closed elsewhere is not ready', async () => {
  const { pipe, engine } = await openTiny()
  expect(engine.isReady).toBe(true)
  await pipe.model.dispose()
  expect(engine.isReady).toBe(false)
  await expect(engine.close()).resolves.toBeUndefined()
})
