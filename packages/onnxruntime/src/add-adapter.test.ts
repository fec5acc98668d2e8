/** `addAdapter`: the modules, heads and files of new adapters. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createConfig, decodeFloats, loadAdapter } from '@fourierft/core'
import { findLinearLayers, readModel } from '@fourierft/onnx'
import * as ort from 'onnxruntime-node'
import { afterAll, afterEach, expect, test } from 'vitest'
import { SHAPES, twoLayers } from './__fixtures__/two-layers.js'
import type { AdaptedSession } from './adapted-session.js'
import { createSession, type SessionOptions } from './create-session.js'

const folder = mkdtempSync(join(tmpdir(), 'fourierft-add-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const BERT = new URL('../../onnx/src/__fixtures__/bert-torchscript.onnx', import.meta.url)
const open: AdaptedSession[] = []
async function session(model: URL | Uint8Array | string, options: SessionOptions = {}) {
  const created = await createSession(model, options)
  open.push(created)
  return created
}
afterEach(async () => {
  for (const session of open.splice(0)) await session.release().catch(() => undefined)
})

const ids = BigInt64Array.from({ length: 8 }, (_, i) => BigInt((3 * i) % 20))
const outputOf = async (session: AdaptedSession) =>
  (await session.run({ x: new ort.Tensor('int64', ids, [1, 8]) }))[session.outputNames[0]]
    ?.data as Float32Array

/** `max |a − b|` over `max |b|`. */
function difference(a: Float32Array, b: Float32Array): number {
  const largest = b.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  return b.reduce((most, value, i) => Math.max(most, Math.abs(value - a[i])), 0) / largest
}

test('creates an adapter with the modules of its configuration and coefficients of zero, which is active and can be saved', async () => {
  const adapted = await session(BERT)
  const base = await outputOf(adapted)
  const config = { targetModules: ['query', 'value'], nFrequency: 24, scaling: 150 }
  await adapted.addAdapter('zero', config)
  for (const { coefficients } of (await adapted.getAdapter()).modules.values())
    expect(coefficients).toEqual(new Float32Array(24))
  // Coefficients of zero add zeros.
  expect(await outputOf(adapted)).toEqual(base)
  adapted.deleteAdapter('zero')
  await adapted.addAdapter('new', { ...config, initWeights: false })
  adapted.setAdapter('new')
  expect(adapted.activeAdapters).toEqual(['new'])
  const changed = await outputOf(adapted)
  expect(changed).not.toEqual(base)
  const { modules, config: saved } = await adapted.getAdapter()
  expect([...modules.keys()]).toEqual([
    'model.bert.encoder.layer.0.attention.self.query',
    'model.bert.encoder.layer.0.attention.self.value',
    'model.bert.encoder.layer.1.attention.self.query',
    'model.bert.encoder.layer.1.attention.self.value',
  ])
  expect(saved.nFrequency).toBe(24)
  await adapted.savePretrained(join(folder, 'new'))
  const other = await session(BERT, { adapters: join(folder, 'new') })
  expect(await outputOf(other)).toEqual(changed)
  await expect(adapted.addAdapter('new', { nFrequency: 24 })).rejects.toMatchObject({
    code: 'ADAPTER_EXISTS',
  })
  await expect(adapted.addAdapter('b', { targetModules: ['quary'] })).rejects.toMatchObject({
    code: 'MODULE_NOT_FOUND',
  })
  expect(adapted.listAdapters()).toEqual(['new'])
})

test.each([
  ['in', { modulesToSave: ['classifier'] }],
  ['beside', { modulesToSave: ['classifier'] }],
  ['in', { taskType: 'SEQ_CLS' }],
])('a head starts with the model’s weights, which are %s the file: %j', async (location, head) => {
  const bytes = new Uint8Array(readFileSync(BERT))
  const model = readModel(bytes)
  const layer = findLinearLayers(model).find(({ module }) => module === 'model.classifier')
  if (!layer) throw new Error('the fixture has no head')
  const path = join(folder, `${location}.onnx`)
  if (location === 'beside') {
    const tensor = model.graph.initializers.get(layer.weight)
    const data = tensor?.data() as Uint8Array
    writeFileSync(join(folder, 'weights.bin'), data)
    tensor?.setData({ location: 'weights.bin', offset: 0, length: data.length })
  }
  writeFileSync(path, model.toBytes())
  const adapted = await session(path)
  const base = await outputOf(adapted)
  const config = {
    targetModules: ['query'],
    ...head,
    nFrequency: 24,
    initWeights: true,
  }
  await adapted.addAdapter('new', config)
  // The coefficients are zero. Only the order of additions in the head differs: two sums of 32 products and a bias, each with an error of at
  // most 33 · 2⁻²⁴.
  expect(difference(await outputOf(adapted), base)).toBeLessThan(2 * 33 * 2 ** -24)
  await adapted.savePretrained(join(folder, location))
  const { savedTensors, modules } = await loadAdapter(join(folder, location))
  expect([...modules.keys()]).not.toContain('model.classifier')
  const shapes = Array.from(savedTensors, ([name, { shape }]) => [name, shape])
  const { outFeatures, inFeatures } = layer
  expect(Object.fromEntries(shapes)).toEqual({
    'base_model.model.model.classifier.weight': [outFeatures, inFeatures],
    'base_model.model.model.classifier.bias': [outFeatures],
  })
  // PyTorch's layout, [out, in].
  const stored = readModel(bytes).graph.initializers.get(layer.weight)
  const storedBytes = stored?.data() ?? new Uint8Array()
  const expected = decodeFloats({ dtype: 'F32', bytes: storedBytes })
  const weight = savedTensors.get('base_model.model.model.classifier.weight')
  const saved = decodeFloats({ dtype: 'F32', bytes: weight?.bytes ?? new Uint8Array() })
  expect(saved).toHaveLength(expected.length)
  const isOutFirst = stored?.dims[0] === outFeatures
  for (const [p, value] of saved.entries()) {
    const [o, i] = [Math.floor(p / inFeatures), p % inFeatures]
    expect(value).toBe(expected[isOutFirst ? p : i * outFeatures + o])
  }
})

test('all-linear leaves out the head of the task', async () => {
  const adapted = await session(BERT)
  const config = createConfig({ targetModules: 'all-linear', taskType: 'SEQ_CLS', nFrequency: 24 })
  await adapted.addAdapter('all', config)
  const names = [...(await adapted.getAdapter('all')).modules.keys()]
  expect(names).toContain('model.bert.encoder.layer.1.output.dense')
  expect(names).not.toContain('model.classifier')
})

test('finds modules by the names in moduleNames', async () => {
  const [first] = Object.keys(SHAPES) as ['block.first']
  const moduleNames = { 'my.layer': `/${first.replace('.', '/')}/MatMul` }
  const adapted = await session(twoLayers(), { moduleNames })
  await adapted.addAdapter('new', { targetModules: ['my.layer'], nFrequency: 4 })
  expect([...(await adapted.getAdapter()).modules.keys()]).toEqual(['my.layer'])
})

test('finds modules by a pattern in moduleNames', async () => {
  const names = Object.keys(SHAPES).map((name) => name.replace('block.', 'my.'))
  const adapted = await session(twoLayers(), { moduleNames: { 'my.*': '/block/*/MatMul' } })
  await adapted.addAdapter('new', { targetModules: names, nFrequency: 4 })
  expect([...(await adapted.getAdapter()).modules.keys()].sort()).toEqual(names.sort())
})

test('rejects a head with quantised weights, and changes nothing', async () => {
  const adapted = await session(new URL('../../onnx/src/__fixtures__/bert-q8.onnx', import.meta.url))
  const base = await outputOf(adapted)
  const config = { targetModules: ['query'], modulesToSave: ['value'], nFrequency: 24 }
  await expect(adapted.addAdapter('new', config)).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    details: { option: 'modulesToSave' },
  })
  await expect(
    adapted.addAdapter('new', { ...config, modulesToSave: ['no_such_head'] }),
  ).rejects.toMatchObject({ code: 'MODULE_NOT_FOUND', details: { option: 'modulesToSave' } })
  expect(adapted.listAdapters()).toEqual([])
  expect(await outputOf(adapted)).toEqual(base)
  // Without a head, the adapter can be added.
  await adapted.addAdapter('new', { targetModules: ['query'], nFrequency: 24 })
})
