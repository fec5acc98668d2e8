/** Adapters with heads (`modules_to_save`): each adapter uses its own head, and the base model keeps the original head. */
import { readFileSync } from 'node:fs'
import {
  Adapter,
  createAdapter,
  createConfig,
  encodeFloats,
  type FourierFTOptions,
  type RowAdapter,
  type Shape,
  type Tensor,
} from '@fourierft/core'
import { biasOf, findLinearLayers, readModel } from '@fourierft/onnx'
import * as ort from 'onnxruntime-node'
import { afterEach, describe, expect, test } from 'vitest'
import type { AdaptedSession } from './adapted-session.js'
import { createSession, type SessionOptions } from './create-session.js'

const url = new URL('../../onnx/src/__fixtures__/bert-torchscript.onnx', import.meta.url)
const layers = findLinearLayers(readModel(new Uint8Array(readFileSync(url))))
const layerOf = (ending: string) => {
  const layer = layers.find(({ module }) => module?.endsWith(ending))
  if (!layer) throw new Error(`the fixture has no ${ending}`)
  return layer
}
const shapeOf = (ending: string): Shape => [layerOf(ending).outFeatures, layerOf(ending).inFeatures]
const QUERY = 'bert.encoder.layer.0.attention.self.query'
const [labels, hidden] = shapeOf('classifier')

const stored = (shape: readonly number[], phase: number, dtype: 'F32' | 'F16' = 'F32'): Tensor => {
  const length = shape.reduce((product, size) => product * size, 1)
  const values = Float32Array.from({ length }, (_, i) => Math.fround(Math.sin(1.7 * i + phase)))
  return { dtype, shape: [...shape], bytes: encodeFloats(values, dtype) }
}

function head(
  phase: number,
  tensors = { weight: stored([labels, hidden], phase), bias: stored([labels], phase) },
) {
  return new Map(
    Object.entries(tensors).map(([kind, tensor]) => [`base_model.model.classifier.${kind}`, tensor]),
  )
}

/** Returns an adapter as the two files that PEFT writes. */
function adapterWith(savedTensors: ReadonlyMap<string, Tensor>, seed = 1, options: FourierFTOptions = {}) {
  const config = createConfig({
    nFrequency: 24,
    scaling: 150,
    initWeights: false,
    targetModules: ['query'],
    modulesToSave: ['classifier'],
    ...options,
  })
  const { modules } = createAdapter(config, { [QUERY]: shapeOf('query') }, { initialSeed: seed })
  return new Adapter({ config, modules, savedTensors }).toBytes()
}

const ids = BigInt64Array.from({ length: 8 }, (_, i) => BigInt((3 * i) % 20))
const feeds = { x: new ort.Tensor('int64', ids, [1, 8]) }

const open: AdaptedSession[] = []
async function session(options: SessionOptions): Promise<AdaptedSession> {
  const created = await createSession(url, options)
  open.push(created)
  return created
}
afterEach(async () => {
  for (const session of open.splice(0)) await session.release().catch(() => undefined)
})

const outputOf = async (session: Pick<ort.InferenceSession, 'run' | 'outputNames'>, options = {}) =>
  (await session.run(feeds, options))[session.outputNames[0]]?.data as Float32Array

function difference(a: Float32Array, b: Float32Array): number {
  const largest = b.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  return b.reduce((most, value, i) => Math.max(most, Math.abs(value - a[i])), 0) / largest
}

describe.each([true, false])('native %s', (native) => {
  test('uses a head if and only if its adapter is active', async () => {
    const plain = await ort.InferenceSession.create(new Uint8Array(readFileSync(url)))
    const base = await outputOf(plain)
    const adapters = { a: adapterWith(head(1)), b: adapterWith(head(2), 2), none: adapterWith(new Map(), 3) }
    const adapted = await session({ native, adapters })
    expect(adapted.inputNames).toEqual(['x'])
    const outputs = new Map<string, Float32Array>()
    for (const name of ['a', 'b', 'none']) {
      adapted.setAdapter(name)
      outputs.set(name, await outputOf(adapted))
      // The expected output is that of a model with the head and ΔW in its weights.
      const merged = await session({ native, adapters: adapters[name as 'a'] })
      const unloaded = await merged.mergeAndUnload()
      // Two layers, each a sum of at most 32 products and 2·24 terms of the branch, with a LayerNorm between, rounded to float32.
      expect(difference(outputs.get(name) as Float32Array, await outputOf(unloaded))).toBeLessThan(
        4 * (32 + 2 * 24) * 2 ** -24,
      )
      await unloaded.release()
    }
    expect(outputs.get('a')).not.toEqual(outputs.get('b'))
    adapted.disableAdapters()
    expect(await outputOf(adapted)).toEqual(base)
    adapted.enableAdapters()
    adapted.setAdapter([])
    expect(await outputOf(adapted)).toEqual(base)
    adapted.setAdapter('a')
    expect(await outputOf(adapted)).toEqual(outputs.get('a'))

    // ΔW of both adapters, and the head of the adapter that has one.
    adapted.setAdapter(['none', 'a'])
    const both = await outputOf(adapted)
    await adapted.mergeAdapter()
    expect(difference(await outputOf(adapted), both)).toBeLessThan(4 * (32 + 4 * 24) * 2 ** -24)
    adapted.unmergeAdapter()
    expect(await outputOf(adapted)).toEqual(both)
    await plain.release()
  })
})

test('works without input metadata, as in ONNX Runtime before 1.22', async () => {
  const create = async (...args: Parameters<typeof ort.InferenceSession.create>) => {
    const session = await ort.InferenceSession.create(...args)
    Object.defineProperty(session, 'inputMetadata', { value: undefined })
    Object.defineProperty(session, 'outputMetadata', { value: undefined })
    return session
  }
  const InferenceSession = { create: create as typeof ort.InferenceSession.create }
  const adapters = { a: adapterWith(head(1)), none: adapterWith(new Map(), 3) }
  const [old, current] = [
    await session({ adapters, ort: { ...ort, InferenceSession } }),
    await session({ adapters }),
  ]
  expect(old.inputMetadata).toEqual([])
  expect(await outputOf(old)).toEqual(await outputOf(current))
  for (const adapted of [old, current]) adapted.setAdapter('none')
  expect(await outputOf(old)).toEqual(await outputOf(current))
})

describe.each([true, false])('a head with another number of labels, native %s', (native) => {
  const largerHead = head(3, { weight: stored([labels + 4, hidden], 3), bias: stored([labels + 4], 3) })

  test('replaces the model’s head while its adapter is active', async () => {
    const adapters = {
      a: adapterWith(head(1)),
      larger: adapterWith(largerHead, 2),
      none: adapterWith(new Map(), 3),
    }
    const adapted = await session({ native, adapters })
    const plain = await ort.InferenceSession.create(new Uint8Array(readFileSync(url)))
    const base = await outputOf(plain)
    await plain.release()
    const onlyA = await session({ native, adapters: adapters.a })
    expect(await outputOf(adapted)).toEqual(await outputOf(onlyA))

    adapted.setAdapter(['none', 'larger'])
    const both = await outputOf(adapted)
    expect(both).toHaveLength(labels + 4)
    adapted.setAdapter('larger')
    const results = await adapted.run(feeds)
    expect(results[adapted.outputNames[0]]?.dims).toEqual([1, labels + 4])
    const unmerged = await outputOf(adapted)
    await adapted.mergeAdapter()
    // Two layers, each a sum of at most 32 products and 2·24 terms of the branch, with a LayerNorm between, rounded to float32.
    expect(difference(await outputOf(adapted), unmerged)).toBeLessThan(4 * (32 + 2 * 24) * 2 ** -24)
    adapted.unmergeAdapter()
    expect(await outputOf(adapted)).toEqual(unmerged)
    adapted.setAdapter([])
    expect(await outputOf(adapted)).toEqual(base)
  })

  test('can be loaded after adapters with heads of the model’s size', async () => {
    const adapted = await session({ native, adapters: { a: adapterWith(head(1)) } })
    const before = await outputOf(adapted)
    expect(adapted.outputMetadata.every((value) => !value.isTensor || value.shape.includes(labels))).toBe(
      true,
    )
    await adapted.loadAdapter(adapterWith(largerHead, 2), { name: 'larger' })
    expect(await outputOf(adapted)).toEqual(before)
    adapted.setAdapter('larger')
    expect(await outputOf(adapted)).toHaveLength(labels + 4)
  })
})

test('rejects a replacement of another size if the graph or another adapter needs the model’s size', async () => {
  const dense = 'bert.encoder.layer.0.intermediate.dense'
  const config = { modulesToSave: ['intermediate.dense'] }
  const tensors = new Map([
    [`base_model.model.${dense}.weight`, stored([7, hidden], 1)],
    [`base_model.model.${dense}.bias`, stored([7], 1)],
  ])
  const adapted = await session({ adapters: { branch: branchOn('classifier') } })
  const before = await outputOf(adapted)
  await expect(adapted.loadAdapter(adapterWith(tensors, 1, config), { name: 'a' })).rejects.toMatchObject({
    code: 'SHAPE_MISMATCH',
  })
  const largerHead = head(3, { weight: stored([labels + 4, hidden], 3), bias: stored([labels + 4], 3) })
  await expect(adapted.loadAdapter(adapterWith(largerHead), { name: 'larger' })).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    advice: 'load them into separate sessions',
  })
  expect(adapted.listAdapters()).toEqual(['branch'])
  expect(await outputOf(adapted)).toEqual(before)
})

function branchOn(module: string) {
  const config = createConfig({ nFrequency: 4, initWeights: false, targetModules: [module] })
  return createAdapter(config, { [module]: shapeOf(module) })
}

test.each(['all', 'fourierft_only'])('rejects bias %s before modules are searched', async (bias) => {
  const config = createConfig({ nFrequency: 4, targetModules: ['query'], bias })
  const { modules } = createAdapter(config, { [QUERY]: shapeOf('query') })
  const savedTensors = new Map([
    [`base_model.model.${QUERY}.base_layer.bias`, stored([shapeOf('query')[0]], 1)],
    ['base_model.model.bert.embeddings.LayerNorm.bias', stored([16], 1)],
  ])
  const adapter = new Adapter({ config, modules, savedTensors })
  const expected = { code: 'UNSUPPORTED', message: expect.stringContaining(`bias: '${bias}'`) }
  await expect(createSession(url, { adapters: adapter })).rejects.toMatchObject(expected)
  const adapted = await session({})
  await expect(adapted.loadAdapter(adapter.toBytes())).rejects.toMatchObject(expected)
})

test('rejects two heads for one layer', async () => {
  const adapted = await session({ adapters: { a: adapterWith(head(1)), b: adapterWith(head(2), 2) } })
  const before = await outputOf(adapted)
  expect(() => adapted.setAdapter(['a', 'b'])).toThrow(
    "adapters a and b both replace layer 'classifier' (modulesToSave); choose one of them",
  )
  expect(await outputOf(adapted, { adapters: ['a'] })).toEqual(before)
  expect(adapted.activeAdapters).toEqual(['a'])
})

/** A model with batches of any size. */
const batchUrl = new URL('../../onnx/src/__fixtures__/bert-batch.onnx', import.meta.url)
const BATCH = 4
const batchFeeds = {
  x: new ort.Tensor(
    'int64',
    BigInt64Array.from({ length: BATCH * 8 }, (_, i) => BigInt((3 * i + Math.floor(i / 8)) % 20)),
    [BATCH, 8],
  ),
}

describe.each([true, false])('rows with their own heads, native %s', (native) => {
  const large = (phase: number) =>
    head(phase, { weight: stored([labels + 4, hidden], phase), bias: stored([labels + 4], phase) })
  const adapters = {
    a: adapterWith(head(1)),
    b: adapterWith(head(2), 2),
    none: adapterWith(new Map(), 3),
    largeA: adapterWith(large(3), 4),
    largeB: adapterWith(large(5), 5),
  }

  async function sessionWith(...names: readonly (keyof typeof adapters)[]) {
    const created = await createSession(batchUrl, {
      native,
      adapters: Object.fromEntries(names.map((name) => [name, adapters[name]])),
    })
    open.push(created)
    const outputs = async (rows: readonly RowAdapter[]) => {
      const { y } = await created.run(batchFeeds, { adapters: rows })
      return y as ort.Tensor
    }
    /** Compares each row with that of a batch with its adapter alone. */
    const expectRows = async (rows: readonly RowAdapter[]) => {
      const received = await outputs(rows)
      const size = received.size / rows.length
      for (const [r, name] of rows.entries()) {
        const alone = await outputs([name])
        expect(received.dims).toEqual(alone.dims)
        const [found, expected] = [received, alone].map(({ data }) =>
          (data as Float32Array).subarray(r * size, (r + 1) * size),
        ) as [Float32Array, Float32Array]
        // Two layers, each a sum of at most 32 products and 2·24 terms of the branch, with a LayerNorm between, rounded to float32.
        expect(difference(found, expected)).toBeLessThan(4 * (32 + 2 * 24) * 2 ** -24)
      }
    }
    return { created, outputs, expectRows }
  }

  test('equal a batch with each adapter alone', async () => {
    const { created, outputs, expectRows } = await sessionWith('a', 'b', 'none')
    const [ofA, ofB] = [await outputs(['a']), await outputs(['b'])]
    expect(difference(ofA.data as Float32Array, ofB.data as Float32Array)).toBeGreaterThan(0.1)
    await expectRows(['a', 'b', 'b', 'a'])
    await expectRows(['b', 'a'])
    await expectRows(['a', null, 'none', 'b'])
    await expectRows(['none', 'b', null, null])
    // One head for all rows is computed as for an active adapter.
    created.setAdapter('a')
    const { y } = await created.run(batchFeeds)
    expect((await outputs(['a', 'a', 'a', 'a'])).data).toEqual(y?.data)
    // The scale of a row does not affect its head, and rows of one adapter share the head.
    await expectRows([{ name: 'a', scale: 0.5 }, 'b', 'a', { name: 'b', scale: 0 }])
  })

  test('can have another number of labels, the same in all rows', async () => {
    const { created, expectRows, outputs } = await sessionWith('a', 'b', 'largeA', 'largeB')
    await expectRows(['largeA', 'largeB', 'largeB', 'largeA'])
    await expectRows(['a', 'b', null, 'a'])
    await expect(outputs(['largeB', 'largeA', 'a', 'b'])).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining(
        `adapters 'largeB' and 'a' replace module classifier (modulesToSave) with layers of ${labels + 4} and ${labels} output features`,
      ),
      details: { received: ['largeB', 'a'] },
    })
    await expect(outputs([null, 'largeA'])).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining("adapter 'largeA' replaces module classifier"),
    })
    await expect(
      created.withAdapterPerRow(['a', 'largeA'], () => created.run(batchFeeds)),
    ).rejects.toMatchObject({ code: 'UNSUPPORTED' })
    await expectRows(['largeB', 'largeA'])
  })
})

test('loads an adapter with a head after an adapter without a head', async () => {
  const adapted = await session({ adapters: { none: adapterWith(new Map()) } })
  const before = await outputOf(adapted)
  await adapted.loadAdapter(adapterWith(head(1)), { name: 'a' })
  expect(await outputOf(adapted)).toEqual(before)
  adapted.setAdapter('a')
  expect(await outputOf(adapted)).not.toEqual(before)
})

test('reads a head in half precision', async () => {
  const tensors = { weight: stored([labels, hidden], 1, 'F16'), bias: stored([labels], 1, 'F16') }
  const adapted = await session({ adapters: adapterWith(head(1, tensors)) })
  const exact = await session({ adapters: adapterWith(head(1)) })
  // Rounding to half precision, in sums of `hidden` numbers. Weights and hidden state are at most 1.
  expect(difference(await outputOf(adapted), await outputOf(exact))).toBeLessThan((hidden + 1) * 2 ** -11)
})

test.each([
  ['SHAPE_MISMATCH', head(1, { weight: stored([labels, hidden + 1], 1), bias: stored([labels], 1) })],
  ['SHAPE_MISMATCH', head(1, { weight: stored([labels + 1, hidden], 1), bias: stored([labels], 1) })],
  ['SHAPE_MISMATCH', head(1, { weight: stored([labels, hidden], 1), bias: stored([labels, 1], 1) })],
  ['INVALID_SAFETENSORS', new Map([...head(1)].slice(0, 1))],
  ['INVALID_SAFETENSORS', new Map([...head(1)].slice(1))],
  ['MODULE_NOT_FOUND', new Map([['base_model.model.a.classifier.weight', stored([2, 16], 1)]])],
  ['UNSUPPORTED', new Map([['base_model.model.bert.embeddings.LayerNorm.weight', stored([16], 1)]])],
  ['UNSUPPORTED', new Map([['base_model.model.classifier.gamma', stored([16], 1)]])],
])('%s: the error names the tensor, and the session keeps working', async (code, tensors) => {
  expect(biasOf(layerOf('classifier'))).toBeDefined()
  const adapted = await session({ adapters: { none: adapterWith(new Map()) } })
  const before = await outputOf(adapted)
  const files = adapterWith(tensors)
  const error = await adapted.loadAdapter(files, { name: 'bad' }).catch((thrown) => thrown)
  expect(error).toMatchObject({ code, message: expect.stringContaining('base_model.model.') })
  expect(adapted.listAdapters()).toEqual(['none'])
  expect(await outputOf(adapted)).toEqual(before)
})
