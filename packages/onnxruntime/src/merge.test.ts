/** Merging adapters into the weights of a session, unmerging and unloading; and the other methods while adapters are merged. */
import { fileURLToPath } from 'node:url'
import { type Adapter, createAdapter, createConfig, type Shape } from '@fourierft/core'
import { findLinearLayers, readModel } from '@fourierft/onnx'
import * as ort from 'onnxruntime-node'
import { afterEach, describe, expect, test } from 'vitest'
import { SHAPES, twoLayers } from './__fixtures__/two-layers.js'
import type { AdaptedSession } from './adapted-session.js'
import { createSession, type SessionOptions } from './create-session.js'

function adapterFor(shapes: Record<string, Shape>, seed: number): Adapter {
  const config = createConfig({ nFrequency: 24, scaling: 150, initWeights: false })
  return createAdapter(config, shapes, { initialSeed: seed })
}

const a = adapterFor(SHAPES, 1)
const b = adapterFor({ 'block.first': SHAPES['block.first'] }, 2)
const x = Float32Array.from({ length: 2 * 3 * 12 }, (_, i) => Math.sin(0.7 * i))
const feeds = { x: new ort.Tensor('float32', x, [2, 3, 12]) }

const open: AdaptedSession[] = []
async function session(options: SessionOptions = {}): Promise<AdaptedSession> {
  const created = await createSession(twoLayers(), { adapters: { a, b }, ...options })
  open.push(created)
  return created
}
afterEach(async () => {
  for (const session of open.splice(0)) await session.release().catch(() => undefined)
})

const outputOf = async (session: Pick<ort.InferenceSession, 'run'>) =>
  (await session.run(feeds)).y?.data as Float32Array

/** `max |a − b|` over `max |b|`. */
function difference(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length)
  const largest = b.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  return b.reduce((most, value, i) => Math.max(most, Math.abs(value - a[i])), 0) / largest
}

/**
 * Two float32 computations of the same numbers, through two layers: sums of at most 20 products and 2·24 terms of the branch, W + ΔW rounded
 * once. Each rounding is at most 2⁻²⁴ of a magnitude that can be a few times the largest output.
 */
const LIMIT = 2 * (20 + 2 * 24 + 2) * 2 ** -24

const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'no error',
    (error) => error.code ?? error,
  )

describe.each([true, false])('native %s', (native) => {
  test('merged adapters give the outputs of branches, within rounding; unmerging restores the outputs, bit for bit', async () => {
    const adapted = await session({ native })
    adapted.disableAdapters()
    const base = await outputOf(adapted)
    adapted.enableAdapters()
    for (const names of ['a', ['a', 'b'], ['b']]) {
      adapted.setAdapter(names)
      const unmerged = await outputOf(adapted)
      await adapted.mergeAdapter()
      expect(adapted.mergedAdapters).toEqual([names].flat())
      const merged = await outputOf(adapted)
      expect(difference(merged, unmerged)).toBeLessThan(LIMIT)
      expect(merged).not.toEqual(base)
      adapted.unmergeAdapter()
      expect(adapted.mergedAdapters).toEqual([])
      expect(await outputOf(adapted)).toEqual(unmerged)
    }
    adapted.disableAdapters()
    expect(await outputOf(adapted)).toEqual(base)
  })

  test('merges the named adapters, even if others are active', async () => {
    const adapted = await session({ native })
    adapted.setAdapter('b')
    const other = await outputOf(adapted)
    adapted.setAdapter('a')
    await adapted.mergeAdapter('b')
    expect(difference(await outputOf(adapted), other)).toBeLessThan(LIMIT)
    expect(adapted.activeAdapters).toEqual(['a'])
  })

  test('mergeAndUnload returns a plain session, also if adapters are merged already', async () => {
    for (const isMerged of [false, true]) {
      const adapted = await session({ native })
      const unmerged = await outputOf(adapted)
      if (isMerged) await adapted.mergeAdapter()
      const plain = await adapted.mergeAndUnload()
      expect(plain.inputNames).toEqual(['x'])
      expect(difference(await outputOf(plain), unmerged)).toBeLessThan(LIMIT)
      expect(await codeOf(adapted.run(feeds))).toBe('INVALID_STATE')
      expect(await codeOf(adapted.mergeAndUnload())).toBe('INVALID_STATE')
      await plain.release()
    }
  })
})

test('while adapters are merged, the methods work as in TensorFlow.js', async () => {
  const adapted = await session()
  const unmerged = await outputOf(adapted)
  await adapted.mergeAdapter()
  const merged = await outputOf(adapted)
  await expect(adapted.mergeAdapter()).rejects.toThrow('adapters a are merged; call unmergeAdapter() first')
  await expect(adapted.run(feeds, { adapters: ['a', 'b'] })).rejects.toThrow(
    'adapters a are merged into the weights, which all rows share; call unmergeAdapter() first',
  )
  expect(() => adapted.withAdapterPerRow(['a', 'b'], () => 0)).toThrow('adapters a are merged')
  // Loading an adapter does not unmerge.
  await adapted.loadAdapter(adapterFor({ 'block.second': SHAPES['block.second'] }, 3), { name: 'c' })
  expect(await outputOf(adapted)).toEqual(merged)
  for (const method of [
    () => adapted.setAdapter('a'),
    () => adapted.disableAdapters(),
    () => adapted.deleteAdapter('c'),
  ]) {
    method()
    expect(adapted.mergedAdapters).toEqual([])
    adapted.enableAdapters()
    expect(difference(await outputOf(adapted), unmerged)).toBeLessThan(LIMIT)
    await adapted.mergeAdapter()
  }
  adapted.unmergeAdapter()
  adapted.unmergeAdapter()
  adapted.disableAdapters()
  await expect(adapted.mergeAdapter()).rejects.toThrow(
    'the adapters are disabled; call enableAdapters() first',
  )
  adapted.enableAdapters()
  expect(await codeOf(adapted.mergeAdapter('nobody'))).toBe('ADAPTER_NOT_FOUND')
  adapted.setAdapter([])
  await expect(adapted.mergeAdapter()).rejects.toThrow('no adapter is active')
  await expect(adapted.mergeAndUnload()).rejects.toThrow('no adapter is active')
})

test('runs keep the session on which they started; a method that is called during a merge cancels the merge', async () => {
  const adapted = await session()
  const unmerged = await outputOf(adapted)
  const [before] = await Promise.all([outputOf(adapted), adapted.mergeAdapter()])
  expect(before).toEqual(unmerged)
  const running = outputOf(adapted)
  adapted.unmergeAdapter()
  expect(difference(await running, unmerged)).toBeLessThan(LIMIT)

  const merging = adapted.mergeAdapter()
  adapted.setAdapter('b')
  expect(await codeOf(merging)).toBe('INVALID_STATE')
  expect(adapted.mergedAdapters).toEqual([])
  expect(adapted.activeAdapters).toEqual(['b'])

  const unloading = codeOf(adapted.mergeAndUnload())
  await adapted.loadAdapter(a, { name: 'late' })
  expect(await unloading).toBe('INVALID_STATE')
  expect(adapted.listAdapters()).toEqual(['a', 'b', 'late'])
})

test.each(['bert-q8', 'bert-q4'])(
  '%s: rejects quantised layers, and the session keeps working',
  async (name) => {
    const url = new URL(`../../onnx/src/__fixtures__/${name}.onnx`, import.meta.url)
    const { readFileSync } = await import('node:fs')
    const [layer] = findLinearLayers(readModel(new Uint8Array(readFileSync(fileURLToPath(url)))))
    if (!layer?.module) throw new Error('the fixture has no layers')
    const shapes = { [layer.module]: [layer.outFeatures, layer.inFeatures] as const }
    const adapted = await createSession(url, { adapters: adapterFor(shapes, 1) })
    open.push(adapted)
    const ids = BigInt64Array.from({ length: 8 }, (_, i) => BigInt(i))
    const tokens = { x: new ort.Tensor('int64', ids, [1, 8]) }
    const before = (await adapted.run(tokens)).y?.data
    await expect(adapted.mergeAdapter()).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(/node ".+" .* is quantised; keep the adapter as a branch .*, unmerged/),
    })
    expect(await codeOf(adapted.mergeAndUnload())).toBe('UNSUPPORTED')
    expect((await adapted.run(tokens)).y?.data).toEqual(before)
  },
)

test('opens the old session again if the new session cannot be created', async () => {
  let failsNext = false
  const FailingSession = {
    create(...args: Parameters<typeof ort.InferenceSession.create>) {
      if (!failsNext) return ort.InferenceSession.create(...args)
      failsNext = false
      return Promise.reject(new Error('out of memory'))
    },
  }
  const runtime = { ...ort, InferenceSession: FailingSession as unknown as typeof ort.InferenceSession }
  const adapted = await session({ ort: runtime, adapters: { b } })
  const before = await outputOf(adapted)
  failsNext = true
  const failing = adapted.loadAdapter(a, { name: 'a' })
  const waiting = outputOf(adapted)
  await expect(failing).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    message: expect.stringContaining('out of memory'),
  })
  expect(await waiting).toEqual(before)
  expect(adapted.listAdapters()).toEqual(['b'])
  failsNext = true
  expect(await codeOf(adapted.mergeAndUnload())).toBe('UNSUPPORTED')
  expect(await outputOf(adapted)).toEqual(before)
  await adapted.loadAdapter(a, { name: 'a' })
  expect(difference(await outputOf(adapted), before)).toBeLessThan(LIMIT)
})
