/**
 * Adapters in real exports, plain and quantised, in onnxruntime-node. The native kernel and the portable function agree, the outputs of the base
 * model stay the same, bit for bit, and concurrent runs keep their adapters.
 */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type Adapter, createAdapter, createConfig, type Shape } from '@fourierft/core'
import { findLinearLayers, readModel } from '@fourierft/onnx'
import * as ort from 'onnxruntime-node'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { SHAPES, twoLayers } from './__fixtures__/two-layers.js'
import type { AdaptedSession } from './adapted-session.js'
import { createSession, type SessionOptions } from './create-session.js'
import { registerFourierFTBackend } from './native-backend.js'

const FILES = [
  'bert-torchscript',
  'bert-dynamo',
  'bert-q8',
  'bert-q4',
  'gpt2-torchscript',
  'gpt2-dynamo',
  'gpt2-q8',
  'gpt2-q4',
  'llama-torchscript',
  'llama-dynamo',
  'llama-q8',
  'llama-q4',
  'vit-torchscript',
  'vit-dynamo',
]

const pathOf = (name: string) =>
  fileURLToPath(new URL(`../../onnx/src/__fixtures__/${name}.onnx`, import.meta.url))
const bytesOf = (name: string) => new Uint8Array(readFileSync(pathOf(name)))

/** Returns the shapes of the layers whose names are in the file. */
function shapesOf(name: string, count?: number): Record<string, Shape> {
  const layers = findLinearLayers(readModel(bytesOf(name), { file: name })).flatMap(
    ({ module, outFeatures, inFeatures }) =>
      module === undefined ? [] : [[module, [outFeatures, inFeatures]] as const],
  )
  return Object.fromEntries(layers.slice(0, count))
}

/** Creates an adapter. Its scaling is so large that the output changes by more than the tolerances. */
function adapterFor(shapes: Record<string, Shape>, seed: number, entriesSeed = 777): Adapter {
  const config = createConfig({
    nFrequency: 24,
    scaling: 150,
    randomLocSeed: entriesSeed,
    initWeights: false,
  })
  return createAdapter(config, shapes, { initialSeed: seed })
}

function feedsOf({
  inputNames,
  inputMetadata,
}: Pick<AdaptedSession, 'inputNames' | 'inputMetadata'>): Record<string, ort.Tensor> {
  const [input] = inputNames as [string]
  const [metadata] = inputMetadata
  if (metadata?.isTensor && metadata.type === 'float32') {
    const pixels = Float32Array.from({ length: 3 * 8 * 8 }, (_, i) => Math.sin(i))
    return { [input]: new ort.Tensor('float32', pixels, [1, 3, 8, 8]) }
  }
  const ids = BigInt64Array.from({ length: 8 }, (_, i) => BigInt((3 * i) % 20))
  return { [input]: new ort.Tensor('int64', ids, [1, 8]) }
}

const open: AdaptedSession[] = []
async function session(name: string, options?: SessionOptions): Promise<AdaptedSession> {
  const created = await createSession(pathOf(name), options)
  open.push(created)
  return created
}
afterEach(async () => {
  for (const session of open.splice(0)) await session.release().catch(() => undefined)
})

async function outputOf(
  session: AdaptedSession,
  feeds: Record<string, ort.Tensor>,
  options = {},
): Promise<Float32Array> {
  const results = await session.run(feeds, options)
  return results[session.outputNames[0]]?.data as Float32Array
}

/** `max |a − b|` over `max |b|`. */
function difference(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length)
  const largest = b.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  return b.reduce((most, value, i) => Math.max(most, Math.abs(value - a[i])), 0) / largest
}

const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'no error',
    (error) => error.code ?? error,
  )

describe.each(FILES)('%s', (name) => {
  const shapes = shapesOf(name)

  test.each([true, false])(
    'switches and disables adapters; disabled, gives the outputs of the base model, bit for bit; native: %s',
    async (native) => {
      const [a, b] = [adapterFor(shapes, 1), adapterFor(shapes, 2)]
      const plain = await ort.InferenceSession.create(pathOf(name))
      const adapted = await session(name, { native, adapters: { a, b } })
      expect(adapted.usesNativeKernel).toBe(native)
      expect(adapted.inputNames).toEqual(plain.inputNames)
      expect(adapted.inputMetadata).toEqual(plain.inputMetadata)
      expect(adapted.outputNames).toEqual(plain.outputNames)
      const feeds = feedsOf(adapted)
      const base = (await plain.run(feeds))[plain.outputNames[0]]?.data as Float32Array
      const withA = await outputOf(adapted, feeds)
      adapted.setAdapter('b')
      const withB = await outputOf(adapted, feeds)
      expect(difference(withA, base)).toBeGreaterThan(1e-3)
      expect(difference(withA, withB)).toBeGreaterThan(1e-3)
      adapted.disableAdapters()
      const disabled = await outputOf(adapted, feeds)
      expect(disabled).toEqual(base)
      adapted.enableAdapters()
      expect(await outputOf(adapted, feeds)).toEqual(withB)
      await plain.release()
    },
  )

  test('the native kernel and the portable function agree', async () => {
    const adapters = { a: adapterFor(shapes, 1) }
    const [native, portable] = [
      await session(name, { native: true, adapters }),
      await session(name, { native: false, adapters }),
    ]
    const feeds = feedsOf(native)
    expect(difference(await outputOf(native, feeds), await outputOf(portable, feeds))).toBeLessThan(1e-5)
  })
})

describe.each([true, false])('native %s', (native) => {
  const shapes = shapesOf('bert-torchscript')
  const names = Object.keys(shapes)
  const [a, b] = [adapterFor(shapes, 1), adapterFor(shapes, 2)]
  // This adapter has other entries, and only half of the layers.
  const other = adapterFor(Object.fromEntries(Object.entries(shapes).slice(0, names.length >> 1)), 3, 5)

  test('adds several active adapters', async () => {
    const adapted = await session('bert-torchscript', { native, adapters: { a, b } })
    const feeds = feedsOf(adapted)
    adapted.setAdapter(['a', 'b'])
    const together = await outputOf(adapted, feeds)
    const sum = a.withCoefficients(
      Object.fromEntries(
        names.map((name) => {
          const coefficients = a.modules.get(name)?.coefficients as Float32Array
          return [name, coefficients.map((c, l) => c + (b.modules.get(name)?.coefficients[l] as number))]
        }),
      ),
    )
    await adapted.loadAdapter(sum, { name: 'sum' })
    adapted.setAdapter('sum')
    expect(difference(together, await outputOf(adapted, feeds))).toBeLessThan(1e-5)
  })

  test('gives each row of a batch the same output as in a batch of one row', async () => {
    const firstLayer = { 'block.first': SHAPES['block.first'] }
    const adapters = {
      a: adapterFor(SHAPES, 1),
      b: adapterFor(SHAPES, 2),
      other: adapterFor(firstLayer, 3, 5),
    }
    const adapted = await createSession(twoLayers(), { native, adapters })
    open.push(adapted)
    const [tokens, width] = [3, 12]
    const x = Float32Array.from({ length: 4 * tokens * width }, (_, i) => Math.sin(0.7 * i))
    const perRow = ['a', null, 'other', 'b']
    const batch = { x: new ort.Tensor('float32', x, [4, tokens, width]) }
    const together = await outputOf(adapted, batch, { adapters: perRow })
    const size = together.length / 4
    for (const [row, name] of perRow.entries()) {
      const rowX = x.slice(row * tokens * width, (row + 1) * tokens * width)
      adapted.setAdapter(name ?? [])
      const expected = await outputOf(adapted, { x: new ort.Tensor('float32', rowX, [1, tokens, width]) })
      expect(difference(together.subarray(row * size, (row + 1) * size), expected)).toBeLessThan(1e-5)
    }
    expect(await adapted.withAdapterPerRow(perRow, () => outputOf(adapted, batch))).toEqual(together)
    const none = await outputOf(adapted, batch, { adapters: [null, null] })
    adapted.setAdapter([])
    expect(await outputOf(adapted, batch)).toEqual(none)
    expect(await codeOf(adapted.run(batch, { adapters: ['a', 'b', 'a'] }))).toBe('INVALID_OPTION')
    expect(await codeOf(adapted.run(batch, { adapters: [] }))).toBe('INVALID_OPTION')
  })

  test('keeps the outputs of loaded adapters when an adapter with other entries and layers is loaded', async () => {
    const adapted = await session('bert-torchscript', { native, adapters: { a } })
    const onlyOther = await session('bert-torchscript', { native, adapters: { other } })
    const feeds = feedsOf(adapted)
    const before = await outputOf(adapted, feeds)
    const [during] = await Promise.all([
      outputOf(adapted, feeds),
      adapted.loadAdapter(other, { name: 'other' }),
    ])
    expect(during).toEqual(before)
    expect(adapted.listAdapters()).toEqual(['a', 'other'])
    expect(adapted.activeAdapters).toEqual(['a'])
    expect(difference(await outputOf(adapted, feeds), before)).toBeLessThan(1e-5)
    adapted.setAdapter('other')
    expect(difference(await outputOf(adapted, feeds), await outputOf(onlyOther, feeds))).toBeLessThan(1e-5)
    adapted.deleteAdapter('a')
    expect(adapted.listAdapters()).toEqual(['other'])
  })

  test('200 concurrent runs use the adapters that were active when they started', async () => {
    const adapted = await session('bert-torchscript', { native, adapters: { a, b } })
    const feeds = feedsOf(adapted)
    const expected = new Map<string, Float32Array>()
    for (const name of ['a', 'b']) {
      adapted.setAdapter(name)
      expected.set(name, await outputOf(adapted, feeds))
    }
    const runs = Array.from({ length: 200 }, (_, i) => {
      const name = i % 3 === 0 ? 'a' : 'b'
      adapted.setAdapter(name)
      return outputOf(adapted, feeds).then((output) => ({ name, output }))
    })
    for (const { name, output } of await Promise.all(runs)) expect(output).toEqual(expected.get(name))
  })

  test('fetches outputs by name and into tensors of the caller', async () => {
    const adapted = await session('bert-torchscript', { native, adapters: { a } })
    const feeds = feedsOf(adapted)
    const [name] = adapted.outputNames as [string]
    const allOutputs = await adapted.run(feeds)
    const named = await adapted.run(feeds, [name], { adapters: ['a'] })
    expect(Object.keys(named)).toEqual([name])
    expect(named[name]?.data).toEqual(allOutputs[name]?.data)
    const { dims } = allOutputs[name]
    const target = new ort.Tensor('float32', new Float32Array(allOutputs[name].size), dims)
    await adapted.run(feeds, { [name]: target })
    expect(target.data).toEqual(allOutputs[name]?.data)
    await expect(adapted.run({})).rejects.toThrow('missing')
  })

  test('errors do not change the session', async () => {
    const adapted = await session('bert-torchscript', { native, adapters: { a } })
    const feeds = feedsOf(adapted)
    const before = await outputOf(adapted, feeds)
    const [first] = names as [string]
    const misspelt = adapterFor({ [`${first}x`]: shapes[first] }, 1)
    const narrow = adapterFor({ [first]: [12, 10] }, 1)
    const load = (adapter: Adapter) => adapted.loadAdapter(adapter, { name: 'new' })
    await expect(load(misspelt)).rejects.toMatchObject({
      code: 'MODULE_NOT_FOUND',
      message: expect.stringContaining(first),
    })
    expect(await codeOf(load(narrow))).toBe('SHAPE_MISMATCH')
    expect(await codeOf(adapted.loadAdapter(a, { name: 'a' }))).toBe('ADAPTER_EXISTS')
    expect(await codeOf(adapted.run(feeds, { adapters: ['nobody'] }))).toBe('ADAPTER_NOT_FOUND')
    expect(await codeOf(adapted.run(feeds, { adapters: ['a', null] }))).toBe('INVALID_OPTION')
    expect(() => adapted.setAdapter('nobody')).toThrow("there is no adapter 'nobody'; loaded adapters: a")
    expect(() => adapted.withAdapterPerRow(['nobody'], () => 0)).toThrow('no adapter')
    expect(await outputOf(adapted, feeds)).toEqual(before)
    await adapted.release()
    expect(await codeOf(adapted.run(feeds))).toBe('INVALID_STATE')
    expect(await codeOf(adapted.release())).toBe('INVALID_STATE')
  })

  test('rejects a file that is not a model, is truncated, or is missing', async () => {
    const bytes = bytesOf('bert-torchscript')
    expect(await codeOf(createSession(new TextEncoder().encode('not a model'), { native }))).toBe(
      'INVALID_ONNX',
    )
    expect(await codeOf(createSession(bytes.subarray(0, bytes.length >> 1), { native }))).toBe('INVALID_ONNX')
    expect(await codeOf(createSession('no-such-file.onnx', { native }))).toBe('FILE_NOT_FOUND')
    expect(await codeOf(createSession(7 as unknown as string, { native }))).toBe('INVALID_OPTION')
  })

  test('accepts bytes and URLs', async () => {
    const fromPath = await session('bert-torchscript', { native, adapters: a })
    const fromBytes = await createSession(bytesOf('bert-torchscript'), { native, adapters: a })
    const url = new URL('../../onnx/src/__fixtures__/bert-torchscript.onnx', import.meta.url)
    const fromUrl = await createSession(url, { native, adapters: a })
    open.push(fromBytes, fromUrl)
    const feeds = feedsOf(fromPath)
    const expected = await outputOf(fromPath, feeds)
    expect(await outputOf(fromBytes, feeds)).toEqual(expected)
    expect(await outputOf(fromUrl, feeds)).toEqual(expected)
    expect(fromPath.listAdapters()).toEqual(['default'])
  })

  test('uses an open session until it needs the model, then calls the function that reads it', async () => {
    let reads = 0
    const model = async () => {
      reads++
      return { bytes: bytesOf('bert-torchscript') }
    }
    const plain = await ort.InferenceSession.create(pathOf('bert-torchscript'))
    const adapted = await createSession(model, { native, session: plain })
    open.push(adapted)
    const feeds = feedsOf(adapted)
    const base = await outputOf(adapted, feeds)
    expect(base).toEqual((await plain.run(feeds))[plain.outputNames[0]]?.data)
    expect(reads).toBe(0)
    await adapted.loadAdapter(a, { name: 'a' })
    expect(reads).toBe(1)
    const fromPath = await session('bert-torchscript', { native, adapters: a })
    expect(await outputOf(adapted, feeds)).toEqual(await outputOf(fromPath, feeds))
    // An adapter needs a new session if its entries differ, but not if its coefficients differ.
    expect(adapted.serves(adapterFor(shapesOf('bert-torchscript', 4), 2))).toBe(true)
    expect(adapted.serves(adapterFor(shapesOf('bert-torchscript', 4), 2, 778))).toBe(false)
    adapted.disableAdapters()
    expect(await outputOf(adapted, feeds)).toEqual(base)
  })

  test('ends if the open session was released elsewhere, and opens no other session', async () => {
    const plain = await ort.InferenceSession.create(pathOf('bert-torchscript'))
    const adapted = await createSession(pathOf('bert-torchscript'), { native, session: plain })
    await plain.release()
    const create = vi.spyOn(ort.InferenceSession, 'create')
    const ended = {
      code: 'INVALID_STATE',
      problem: expect.stringMatching(/released elsewhere/),
      advice: 'load the model again',
    }
    await expect(adapted.loadAdapter(a, { name: 'a' })).rejects.toMatchObject(ended)
    await expect(adapted.loadAdapter(a, { name: 'a' })).rejects.toMatchObject(ended)
    await expect(adapted.run(feedsOf(adapted))).rejects.toMatchObject(ended)
    expect(create).not.toHaveBeenCalled()
    create.mockRestore()
  })
})

test('rejects the native kernel on the provider webgpu', async () => {
  const opening = createSession(pathOf('bert-torchscript'), { executionProviders: ['webgpu'], native: true })
  expect(await codeOf(opening)).toBe('UNSUPPORTED')
})

test('ONNX Runtime’s own create accepts fourierft as a provider', async () => {
  registerFourierFTBackend(ort)
  registerFourierFTBackend(ort)
  const session = await ort.InferenceSession.create(pathOf('bert-torchscript'), {
    executionProviders: [{ name: 'fourierft' }],
  })
  const plain = await ort.InferenceSession.create(pathOf('bert-torchscript'))
  expect(session.inputMetadata).toEqual(plain.inputMetadata)
  const feeds = feedsOf(session)
  const [expected, received] = [await plain.run(feeds), await session.run(feeds)]
  expect(received[session.outputNames[0]]?.data).toEqual(expected[session.outputNames[0]]?.data)
  await session.release()
  await plain.release()
})
