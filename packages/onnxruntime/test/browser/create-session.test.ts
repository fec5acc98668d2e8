/** `createSession` in web pages: with the page's `onnxruntime-web`, and with a model and an adapter by URL. */
import { createAdapter, createConfig } from '@fourierft/core'
import * as ort from 'onnxruntime-web'
import { describe, expect, test } from 'vitest'
import { SHAPES, twoLayers } from '../../src/__fixtures__/two-layers.js'
import { createSession } from '../../src/create-session.js'
import { setWasmPaths } from './set-wasm-paths.js'

setWasmPaths()

const config = createConfig({ nFrequency: 24, scaling: 150, initWeights: false })
const adapterOf = (initialSeed: number) => createAdapter(config, SHAPES, { initialSeed })
const adapters = { a: adapterOf(1), b: adapterOf(2) }
const x = Float32Array.from({ length: 2 * 3 * 12 }, (_, i) => Math.sin(0.7 * i))
const feeds = () => ({ x: new ort.Tensor('float32', x, [2, 3, 12]) })

/** Returns a URL of the bytes, like that of a file on a server. */
const urlOf = (bytes: Uint8Array) => URL.createObjectURL(new Blob([Uint8Array.from(bytes)]))

describe.each(['wasm', 'webgpu'] as const)('%s', (provider) => {
  const options = { executionProviders: [provider], logSeverityLevel: 3 } as const
  const allOptions = { ort, ...options }

  test('switches adapters, applies an adapter for each row, disables and merges adapters', async () => {
    const model = twoLayers()
    const plain = await ort.InferenceSession.create(model, options)
    const base = (await plain.run(feeds())).y?.data as Float32Array
    const session = await createSession(model, { adapters, ...allOptions })
    expect(session.usesNativeKernel).toBe(false)
    expect(session.inputNames).toEqual(['x'])
    const outputs: Float32Array[] = []
    for (const name of ['a', 'b', 'a']) {
      session.setAdapter(name)
      outputs.push((await session.run(feeds())).y?.data as Float32Array)
    }
    const [a, b, repeatedA] = outputs as [Float32Array, Float32Array, Float32Array]
    expect(repeatedA).toEqual(a)
    expect(difference(a, b)).toBeGreaterThan(0.01)
    expect(difference(a, base)).toBeGreaterThan(0.01)

    const half = base.length / 2
    const mixed = (await session.run(feeds(), { adapters: ['b', null] })).y?.data as Float32Array
    expect(difference(mixed.subarray(0, half), b.subarray(0, half))).toBeLessThanOrEqual(LIMIT)
    expect(difference(mixed.subarray(half), base.subarray(half))).toBeLessThanOrEqual(LIMIT)

    session.disableAdapters()
    expect((await session.run(feeds())).y?.data).toEqual(base)
    session.enableAdapters()
    await session.mergeAdapter()
    expect(difference((await session.run(feeds())).y?.data as Float32Array, a)).toBeLessThanOrEqual(LIMIT)
    session.unmergeAdapter()
    expect((await session.run(feeds())).y?.data).toEqual(a)
    await session.release()
    await plain.release()
  })

  test('concurrent runs use the adapters that were active when they started', async () => {
    const session = await createSession(twoLayers(), { adapters, ...allOptions })
    const expected = new Map<string, unknown>()
    for (const name of ['a', 'b']) {
      session.setAdapter(name)
      expected.set(name, (await session.run(feeds())).y?.data)
    }
    const runs = Array.from({ length: 20 }, (_, i) => {
      const name = i % 2 === 0 ? 'a' : 'b'
      session.setAdapter(name)
      return session.run(feeds()).then(({ y }) => ({ name, data: y?.data }))
    })
    for (const { name, data } of await Promise.all(runs)) expect(data).toEqual(expected.get(name))
    await session.release()
  })
})

test('loads a model by URL and an adapter by its bytes; rejects a missing model, kernel or runtime', async () => {
  const { config, model } = adapters.a.toBytes()
  const session = await createSession(urlOf(twoLayers()), { ort, adapters: { config, model } })
  const fromMemory = await createSession(twoLayers(), { ort, adapters: adapters.a })
  expect((await session.run(feeds())).y?.data).toEqual((await fromMemory.run(feeds())).y?.data)
  await session.release()
  await fromMemory.release()
  await expect(createSession(new URL('/none.onnx', location.href), { ort })).rejects.toMatchObject({
    name: 'FourierFTError',
  })
  await expect(createSession(twoLayers(), { ort, native: true })).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    details: { option: 'native' },
  })
  await expect(createSession(twoLayers())).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    details: { option: 'ort' },
  })
})

/** The conformance suite's limit for level 4 in float32, relative to the largest number. */
const LIMIT = 1e-5

function difference(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length)
  const largest = b.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  return b.reduce((most, value, i) => Math.max(most, Math.abs(a[i] - value)), 0) / largest
}
