/** The sessions that are open, and the session that a run uses: while adapters are loaded and deleted, and if a session cannot be created. */
import { type Adapter, createAdapter, createConfig, type Shape } from '@fourierft/core'
import * as ort from 'onnxruntime-node'
import * as web from 'onnxruntime-web'
import { afterEach, expect, test, vi } from 'vitest'
import { SHAPES, twoLayers } from './__fixtures__/two-layers.js'
import type { AdaptedSession } from './adapted-session.js'
import { createSession, type SessionOptions } from './create-session.js'
import type { Ort } from './ort.js'

function adapterFor(shapes: Record<string, Shape>, seed: number, scaling = 150): Adapter {
  const config = createConfig({ nFrequency: 24, scaling, initWeights: false })
  return createAdapter(config, shapes, { initialSeed: seed })
}

const FIRST = { 'block.first': SHAPES['block.first'] }
const [a, b] = [adapterFor(FIRST, 1), adapterFor(FIRST, 2)]
/** An adapter that needs other slots than `a` and `b`. */
const otherSlots = adapterFor(SHAPES, 3)

const x = Float32Array.from({ length: 2 * 3 * 12 }, (_, i) => Math.sin(0.7 * i))
const feeds = { x: new ort.Tensor('float32', x, [2, 3, 12]) }
const outputOf = async (session: AdaptedSession, options = {}) =>
  (await session.run(feeds, options)).y?.data as Float32Array

/** `max |a − b|` over `max |b|`. */
function difference(a: Float32Array, b: Float32Array): number {
  const largest = b.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  return b.reduce((most, value, i) => Math.max(most, Math.abs(value - a[i])), 0) / largest
}

/** Two layers, each a sum of at most 20 products and 2·24 terms of the branch, each rounded. */
const LIMIT = 2 * (20 + 2 * 24 + 2) * 2 ** -24

/** Waits until an assertion holds, also on a busy machine. */
const eventually = (assertion: () => void) => vi.waitFor(assertion, { timeout: 300_000 })

/** An ONNX Runtime that counts its sessions, and whose sessions and runs can be delayed or fail. */
class WatchedRuntime {
  open = 0
  /** The largest number of open sessions. */
  mostOpen = 0
  /** The events, in order. */
  readonly log: string[] = []
  /** The number of next sessions that cannot be created. */
  failures = 0
  /** Runs that start now do not end before this promise is settled. */
  runsUntil: Promise<unknown> = Promise.resolve()
  readonly ort: Ort

  constructor() {
    const create = async (...args: Parameters<typeof ort.InferenceSession.create>) => {
      if (this.failures > 0) {
        this.failures--
        await new Promise((resolve) => setTimeout(resolve, 200))
        throw new Error('out of memory')
      }
      const session = await ort.InferenceSession.create(...args)
      const name = `session ${this.log.filter((line) => line.startsWith('open')).length}`
      this.log.push(`open ${name}`)
      this.open++
      this.mostOpen = Math.max(this.mostOpen, this.open)
      const [release, run] = [session.release.bind(session), session.run.bind(session)]
      session.release = async () => {
        this.log.push(`close ${name}`)
        this.open--
        await release()
      }
      session.run = (async (...args: Parameters<typeof run>) => {
        this.log.push(`run ${name}`)
        const { runsUntil } = this
        const result = await run(...args)
        await runsUntil
        return result
      }) as typeof session.run
      return session
    }
    this.ort = { ...ort, InferenceSession: { create: create as typeof ort.InferenceSession.create } }
  }
}

const sessions: AdaptedSession[] = []
afterEach(async () => {
  for (const session of sessions.splice(0)) await session.release().catch(() => undefined)
})

async function session(watched: WatchedRuntime, options: SessionOptions = {}): Promise<AdaptedSession> {
  const created = await createSession(twoLayers(), { adapters: { a, b }, ort: watched.ort, ...options })
  sessions.push(created)
  return created
}

test('closes the old session first if nothing runs; runs that start before the new session is open wait for it', async () => {
  const watched = new WatchedRuntime()
  const adapted = await session(watched)
  const before = await outputOf(adapted)
  const loading = adapted.loadAdapter(otherSlots, { name: 'other' })
  await eventually(() => expect(watched.log).toContain('close session 0'))
  const waiting = outputOf(adapted)
  await loading
  expect(difference(await waiting, before)).toBeLessThan(LIMIT)
  expect(watched.log).toEqual([
    'open session 0',
    'run session 0',
    'close session 0',
    'open session 1',
    'run session 1',
  ])
  expect(watched.mostOpen).toBe(1)
})

test('opens the new session beside the old session during a run; a run within a run does not wait', async () => {
  const watched = new WatchedRuntime()
  const adapted = await session(watched)
  const before = await outputOf(adapted)
  let end = () => {}
  watched.runsUntil = new Promise<void>((done) => {
    end = done
  })
  const outer = outputOf(adapted)
  const loading = adapted.loadAdapter(otherSlots, { name: 'other' })
  // This run starts while the load waits for its session, and ends before the outer run.
  watched.runsUntil = Promise.resolve()
  expect(await outputOf(adapted)).toEqual(before)
  await loading
  expect(watched.open).toBe(2)
  expect(await outputOf(adapted)).toHaveLength(before.length)
  expect(watched.log.at(-1)).toBe('run session 1')
  expect(watched.log).not.toContain('close session 0')
  end()
  expect(await outer).toEqual(before)
  await eventually(() => expect(watched.open).toBe(1))
  expect(watched.log).toContain('close session 0')
})

test('a run keeps its adapter if the adapter is deleted and the session is replaced', async () => {
  const watched = new WatchedRuntime()
  const adapted = await session(watched)
  const before = await outputOf(adapted)
  const running = outputOf(adapted)
  adapted.deleteAdapter('a')
  await adapted.loadAdapter(otherSlots, { name: 'other' })
  expect(await running).toEqual(before)
  expect(adapted.listAdapters()).toEqual(['b', 'other'])
})

test('ends if neither the new session nor the old session can be created', async () => {
  const watched = new WatchedRuntime()
  const adapted = await session(watched)
  watched.failures = 2
  const loading = adapted.loadAdapter(otherSlots, { name: 'other' })
  loading.catch(() => undefined)
  await eventually(() => expect(watched.open).toBe(0))
  const waiting = outputOf(adapted)
  const ended = {
    code: 'INVALID_STATE',
    problem: expect.stringMatching(/no session of the model can be opened any more/),
    advice: 'load the model again',
  }
  await expect(loading).rejects.toMatchObject(ended)
  await expect(waiting).rejects.toMatchObject(ended)
  await expect(outputOf(adapted)).rejects.toMatchObject(ended)
  await expect(adapted.loadAdapter(a, { name: 'c' })).rejects.toMatchObject(ended)
  expect(() => adapted.setAdapter('a')).toThrow(expect.objectContaining(ended))
  expect(watched.open).toBe(0)
})

test('release closes the merged session of a session that has ended by a failure', async () => {
  const watched = new WatchedRuntime()
  const adapted = await session(watched)
  await adapted.mergeAdapter()
  watched.failures = 2
  await expect(adapted.loadAdapter(otherSlots, { name: 'other' })).rejects.toMatchObject({
    code: 'INVALID_STATE',
  })
  expect(watched.open).toBe(1)
  await adapted.release()
  expect(watched.open).toBe(0)
  await expect(adapted.release()).rejects.toMatchObject({ code: 'INVALID_STATE' })
})

test('release closes a session that is being created', async () => {
  for (const isRunning of [false, true]) {
    const watched = new WatchedRuntime()
    const adapted = await session(watched)
    const running = isRunning ? outputOf(adapted) : undefined
    const loading = adapted.loadAdapter(otherSlots, { name: 'other' })
    await new Promise((resolve) => setTimeout(resolve))
    const released = adapted.release()
    await expect(loading).rejects.toMatchObject({ code: 'INVALID_STATE' })
    await released
    await running
    await eventually(() => expect(watched.open).toBe(0))
  }
})

test('a merge does not wait for a run; the merged session closes after its last run', async () => {
  const watched = new WatchedRuntime()
  const adapted = await session(watched)
  let end = () => {}
  watched.runsUntil = new Promise<void>((done) => {
    end = done
  })
  const running = outputOf(adapted)
  await adapted.mergeAdapter()
  const merged = outputOf(adapted)
  adapted.unmergeAdapter()
  expect(watched.open).toBe(2)
  end()
  expect(difference(await merged, await running)).toBeLessThan(LIMIT)
  await eventually(() => expect(watched.open).toBe(1))
})

test('applies an adapter once if its name is repeated', async () => {
  const adapted = await session(new WatchedRuntime())
  const once = await outputOf(adapted)
  adapted.setAdapter(['a', 'a'])
  expect(await outputOf(adapted)).toEqual(once)
  await adapted.mergeAdapter(['a', 'a'])
  expect(adapted.mergedAdapters).toEqual(['a'])
  expect(difference(await outputOf(adapted), once)).toBeLessThan(LIMIT)
})

test.each([true, false])(
  'applies scales in branches, in merged weights, and for each row; native: %s',
  async (native) => {
    const adapters = { a, half: adapterFor(FIRST, 1, 75), b }
    const adapted = await createSession(twoLayers(), { native, adapters })
    sessions.push(adapted)
    const outputs = new Map<string, Float32Array>()
    for (const name of ['a', 'half', 'b']) {
      adapted.setAdapter(name)
      outputs.set(name, await outputOf(adapted))
    }
    adapted.setAdapter('a')
    adapted.setScale('a', 0.5)
    // Multiplication by a power of two is exact.
    expect(await outputOf(adapted)).toEqual(outputs.get('half'))
    await adapted.mergeAdapter()
    const merged = await outputOf(adapted)
    expect(difference(merged, outputs.get('half') as Float32Array)).toBeLessThan(LIMIT)
    adapted.setScale('a', 1)
    expect(await outputOf(adapted)).toEqual(merged)
    adapted.unmergeAdapter()
    expect(await outputOf(adapted)).toEqual(outputs.get('a'))
    const rows = await outputOf(adapted, { adapters: [{ name: 'a', scale: 0.5 }, 'b'] })
    const size = rows.length / 2
    const expected = [
      ...(outputs.get('half') as Float32Array).slice(0, size),
      ...(outputs.get('b') as Float32Array).slice(size),
    ]
    expect(difference(rows, Float32Array.from(expected))).toBeLessThan(LIMIT)
    adapted.setScale('a', 0)
    const none = await outputOf(adapted)
    adapted.disableAdapters()
    expect(difference(none, await outputOf(adapted))).toBeLessThan(LIMIT)
  },
)

test('on the web, creates, runs and releases the sessions of all models one after the other', async () => {
  web.env.wasm.numThreads = 1
  let [running, mostRunning] = [0, 0]
  const counted = async <T>(work: () => Promise<T>): Promise<T> => {
    mostRunning = Math.max(mostRunning, ++running)
    try {
      return await work()
    } finally {
      running--
    }
  }
  const create = (...args: Parameters<typeof web.InferenceSession.create>) =>
    counted(async () => {
      const session = await web.InferenceSession.create(...args)
      const [release, run] = [session.release.bind(session), session.run.bind(session)]
      session.release = () => counted(release)
      session.run = ((...runArgs: Parameters<typeof run>) =>
        counted(() => run(...runArgs))) as typeof session.run
      return session
    })
  const InferenceSession = { create: create as typeof web.InferenceSession.create }
  const open = () => createSession(twoLayers(), { ort: { ...web, InferenceSession }, adapters: { a } })
  const [first, second] = await Promise.all([open(), open()])
  sessions.push(first, second)
  const inputs = { x: new web.Tensor('float32', x, [2, 3, 12]) }
  await Promise.all([
    first.run(inputs),
    second.run(inputs),
    first.loadAdapter(otherSlots, { name: 'other' }),
    second.mergeAdapter(),
    first.run(inputs),
    second.run(inputs),
  ])
  expect(mostRunning).toBe(1)
})
