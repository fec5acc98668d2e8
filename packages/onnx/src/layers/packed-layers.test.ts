/** Adapters on q, k or v of packed products in ONNX Runtime: `GroupQueryAttention`, `Attention`, `Split` and `MatMulNBits`. */
import { createLayer, entriesDigest, type Layer, referenceForward, uniformEntries } from '@fourierft/core'
import { Tensor } from 'onnxruntime-node'
import { describe, expect, test } from 'vitest'
import { modelBytes, quickOrAllCases } from '../__fixtures__/model-files.js'
import { createSession } from '../__fixtures__/onnx-runtime.js'
import { attachBranches } from '../attach/attach.js'
import { bakeBranches } from '../attach/bake.js'
import { detachBranches } from '../attach/detach.js'
import { encodeGraph, type NewGraph, type NewNode, type NewTensor } from '../model/encode.js'
import { type OnnxModel, readModel } from '../model/model.js'
import { DataType, Model } from '../model/schema.js'
import { field, message } from '../model/wire-message.js'
import type { LinearLayer } from './linear-layer.js'
import { findLinearLayers } from './linear-layers.js'
import { matchLayers } from './match-layers.js'
import { findPackedLayers, packedParts } from './packed-layers.js'

const IN = 16
const TOKENS = 4
/** Two heads of 8 for q, one for k and one for v. */
const SIZES = [16, 8, 8] as const
const WIDTH = 32

const floats = (name: string, dims: readonly number[], phase: number): NewTensor & { name: string } => {
  const length = dims.reduce((product, size) => product * size, 1)
  const values = Float32Array.from({ length }, (_, i) => 0.2 * Math.sin(1.7 * i + phase))
  return { name, dims, dataType: DataType.float, data: new Uint8Array(values.buffer) }
}
const int32 = (name: string, dims: readonly number[], value: number) => ({
  name,
  dims,
  dataType: DataType.int32,
  data: new Uint8Array(Int32Array.of(value).buffer),
})

function file(graph: Pick<NewGraph, 'nodes' | 'outputs' | 'initializers'>): Uint8Array {
  const inputs = [{ name: 'x', dataType: DataType.float, dims: [1, TOKENS, IN] }]
  const parts: Uint8Array[] = []
  message(
    field(Model.irVersion, 8),
    field(Model.opsetImport, message(field(1, ''), field(2, 17))),
    field(Model.opsetImport, message(field(1, 'com.microsoft'), field(2, 1))),
    field(Model.graph, encodeGraph({ name: 'main', inputs, ...graph })),
  ).writeTo(parts)
  return new Uint8Array(Buffer.concat(parts))
}

const product: NewNode = {
  name: '/model/layers.0/attn/qkv_proj/MatMul',
  opType: 'MatMul',
  inputs: ['x', 'w'],
  outputs: ['m'],
}
const bias: NewNode = { name: 'bias', opType: 'Add', inputs: ['m', 'b'], outputs: ['qkv'] }
const weights = [floats('w', [IN, WIDTH], 0), floats('b', [WIDTH], 1)]

/** A file like those of onnxruntime-genai's builder, without rotary embeddings. */
const grouped = file({
  nodes: [
    product,
    bias,
    {
      name: 'attention',
      opType: 'GroupQueryAttention',
      domain: 'com.microsoft',
      inputs: ['qkv', '', '', 'past', 'past', 'length', 'total'],
      outputs: ['y', 'present_k', 'present_v'],
      attributes: { num_heads: { int: 2 }, kv_num_heads: { int: 1 } },
    },
  ],
  outputs: ['y', 'present_k', 'present_v'].map((name) => ({ name })),
  initializers: [
    ...weights,
    floats('past', [1, 1, 0, 8], 0),
    int32('length', [1], TOKENS - 1),
    int32('total', [], TOKENS),
  ],
})

const split = file({
  nodes: [
    product,
    { opType: 'Split', inputs: ['m', 'sizes'], outputs: ['q', 'k', 'v'], attributes: { axis: { int: -1 } } },
  ],
  outputs: ['q', 'k', 'v'].map((name) => ({ name })),
  initializers: [
    ...weights.slice(0, 1),
    {
      name: 'sizes',
      dims: [3],
      dataType: DataType.int64,
      data: new Uint8Array(BigInt64Array.from(SIZES, BigInt).buffer),
    },
  ],
})

/** A file like those of onnxruntime.transformers.optimizer. */
const fused = file({
  nodes: [
    {
      name: 'Attention_0',
      opType: 'Attention',
      domain: 'com.microsoft',
      inputs: ['x', 'w', 'b'],
      outputs: ['y'],
      attributes: { num_heads: { int: 2 } },
    },
  ],
  outputs: [{ name: 'y' }],
  initializers: [floats('w', [IN, 48], 0), floats('b', [48], 1)],
})

const x = new Tensor(
  'float32',
  Float32Array.from({ length: TOKENS * IN }, (_, i) => Math.sin(0.7 * i)),
  [1, TOKENS, IN],
)

function adapterOf({ outFeatures, inFeatures, part }: LinearLayer, seed: number): Layer {
  const shape = [outFeatures, inFeatures] as const
  const entries = uniformEntries({ shape, n: 30, seed })
  const coefficients = Float32Array.from({ length: 30 }, (_, l) => 10 * Math.sin(2.3 * l + seed))
  return createLayer({ name: `a.${part?.name}`, shape, entries, coefficients, scaling: 1 })
}

async function run(model: OnnxModel, adapters: readonly Layer[] = [], isActive = true) {
  const session = await createSession(model.toBytes())
  const feeds: Record<string, Tensor> = { x }
  if (adapters.length > 0) feeds['fourierft.rows'] = new Tensor('int64', BigInt64Array.of(0n), [1])
  for (const { name, coefficients, entries } of adapters)
    feeds[`fourierft.${name}`] = isActive
      ? new Tensor('float32', Float32Array.from(coefficients), [1, entries.n])
      : new Tensor('float32', new Float32Array(0), [0, entries.n])
  return session.run(feeds)
}

function attached(bytes: Uint8Array, names: string) {
  const model = readModel(bytes)
  const parts = findPackedLayers(model).filter(({ part }) => part && names.includes(part.name))
  const adapters = parts.map((layer, i) => adapterOf(layer, i + 1))
  attachBranches(
    model,
    parts.map((layer, i) => {
      const { name: module, entries } = adapters[i]
      return { module, layer, entries }
    }),
  )
  return { model, adapters, parts }
}

async function bakeParts(bytes: Uint8Array, names: string) {
  const model = readModel(bytes)
  const parts = findPackedLayers(model).filter(({ part }) => part && names.includes(part.name))
  await bakeBranches(
    model,
    parts.map((layer, i) => ({ layer, adapters: [adapterOf(layer, i + 1)] })),
  )
  return model
}

/** Returns the largest difference, relative to the largest value. */
function distance(a: Tensor | undefined, b: Tensor | undefined): number {
  const [left, right] = [a?.data as Float32Array, b?.data as Float32Array]
  const largest = left.reduce((max, value) => Math.max(max, Math.abs(value)), 0)
  return left.reduce((max, value, i) => Math.max(max, Math.abs(value - right[i])), 0) / largest
}

describe.each([
  ['GroupQueryAttention', grouped],
  ['Split', split],
])('%s', (_, bytes) => {
  test('finds q, k and v with their names', () => {
    const found = findPackedLayers(readModel(bytes))
    expect(found.map(({ module, outFeatures, part }) => [module, outFeatures, part?.offset])).toEqual([
      ['model.layers.0.attn.q_proj', 16, 0],
      ['model.layers.0.attn.k_proj', 8, 16],
      ['model.layers.0.attn.v_proj', 8, 24],
    ])
  })

  test.each(quickOrAllCases(['q', 'k', 'v', 'qv', 'qkv'], (names) => ['k', 'qv'].includes(names)))(
    'branches and baked weights of %s give the same output; detaching gives the original bytes',
    async (names) => {
      const base = await run(readModel(bytes))
      const { model, adapters } = attached(bytes, names)
      const inactive = await run(model, adapters, false)
      for (const [name, tensor] of Object.entries(base)) expect(inactive[name]?.data).toEqual(tensor.data)

      const active = await run(model, adapters)
      const weights = await run(await bakeParts(bytes, names))
      for (const name of Object.keys(base)) {
        // The conformance suite's limit for level 4 in float32.
        expect(distance(active[name], weights[name])).toBeLessThan(1e-5)
      }
      expect(Object.keys(base).some((name) => distance(base[name], active[name]) > 1e-2)).toBe(true)

      const again = readModel(model.toBytes())
      detachBranches(again)
      expect(again.toBytes()).toEqual(bytes)
    },
  )
})

test('Split: an adapted part is its base output plus Δy; the other parts are unchanged, bit for bit', async () => {
  const base = await run(readModel(split))
  const { model, adapters } = attached(split, 'k')
  const active = await run(model, adapters)
  expect(active.q?.data).toEqual(base.q?.data)
  expect(active.v?.data).toEqual(base.v?.data)
  const expected = referenceForward(adapters, x.data, Float64Array.from(base.k?.data as Float32Array))
  const received = active.k
  expect(distance(new Tensor('float32', Float32Array.from(expected), received.dims), received)).toBeLessThan(
    1e-5,
  )
})

test('MatMulNBits: the user gives the sizes of the parts', async () => {
  const model = readModel(modelBytes('bert-q4'))
  const layer = findLinearLayers(model).find(({ module }) =>
    module?.endsWith('layer.0.intermediate.dense'),
  ) as LinearLayer
  expect(layer.node.opType).toBe('MatMulNBits')
  const [, , v] = packedParts(layer, SIZES) as [LinearLayer, LinearLayer, LinearLayer]
  const adapter = adapterOf(v, 1)
  attachBranches(model, [{ module: 'a.v', layer: v, entries: adapter.entries }])
  const base = model.graph.nodes.find(({ outputs: [name] }) => name?.endsWith('.fourierft.base'))
  const before = base?.outputs[0] ?? ''
  const after = before.replace('.fourierft.base', '')
  for (const name of [layer.input, before, after]) model.graph.addOutput({ name })
  const session = await createSession(model.toBytes())
  const ids = BigInt64Array.from({ length: 8 }, (_, i) => BigInt(i))
  const results = await session.run({
    x: new Tensor('int64', ids, [1, 8]),
    'fourierft.rows': new Tensor('int64', BigInt64Array.of(0n), [1]),
    'fourierft.a.v': new Tensor('float32', adapter.coefficients as Float32Array, [1, 30]),
  })
  const change = referenceForward([adapter], results[layer.input]?.data as Float32Array)
  const [y0, y] = [results[before]?.data as Float32Array, results[after]?.data as Float32Array]
  const expected = Float32Array.from(y0, (value, i) => {
    const [token, feature] = [Math.floor(i / WIDTH), i % WIDTH]
    return feature < 24 ? value : value + change[token * 8 + feature - 24]
  })
  expect(distance(new Tensor(expected), new Tensor(y))).toBeLessThan(1e-5)
  expect(distance(new Tensor(y0), new Tensor(y))).toBeGreaterThan(1e-2)
})

describe('com.microsoft Attention', () => {
  test.each(['q', 'k', 'v'])(
    'baking %s gives the output of the same attention with ΔW in its weight',
    async (name) => {
      const received = await run(await bakeParts(fused, name))
      const whole = new Float32Array(48 * IN)
      whole.set(new Float32Array(floats('w', [IN, 48], 0).data.slice().buffer))
      const model = readModel(fused)
      const layer = findPackedLayers(model).find(({ part }) => part?.name === name) as LinearLayer
      const adapter = adapterOf(layer, 1)
      const offset = layer.part?.offset ?? 0
      const unit = Float32Array.from({ length: IN * IN }, (_, i) => (i % (IN + 1) === 0 ? 1 : 0))
      // Row i of the product with the identity matrix is column i of ΔW.
      const change = referenceForward([adapter], unit)
      for (let i = 0; i < IN; i++)
        for (let o = 0; o < 16; o++)
          whole[i * 48 + offset + o] = whole[i * 48 + offset + o] + change[i * 16 + o]
      model.graph.initializers.get('w')?.setData(new Uint8Array(whole.buffer))
      const expected = await run(model)
      expect(distance(expected.y, received.y)).toBeLessThan(1e-5)
      expect(distance((await run(readModel(fused))).y, received.y)).toBeGreaterThan(1e-3)
    },
  )

  test('a map can name a part', () => {
    const layers = findPackedLayers(readModel(fused))
    const map = { 'bert.query': 'Attention_0:q', 'bert.value': 'Attention_0:v' }
    const { matched } = matchLayers(layers, ['bert.query', 'bert.value'], { map })
    expect([...matched.values()].map(({ part }) => part?.offset)).toEqual([0, 32])
  })
})

test('detaches parts with float16 activations', () => {
  const half = halfOf(grouped)
  const model = readModel(half)
  const branches = findPackedLayers(model).map((layer, i) => {
    const { name: module, entries } = adapterOf(layer, i + 1)
    return { module, layer, entries }
  })
  attachBranches(model, branches)
  const again = readModel(model.toBytes())
  expect(again.graph.nodes.filter(({ opType }) => opType === 'Cast')).toHaveLength(9)
  detachBranches(again)
  expect(again.toBytes()).toEqual(half)
})

/** Returns the file with float16 weights of zeros, for tests that do not run it. */
function halfOf(bytes: Uint8Array): Uint8Array {
  const model = readModel(bytes)
  const weights = new Set(findPackedLayers(model).map(({ weight }) => weight))
  for (const name of weights) {
    const { dims = [] } = model.graph.initializers.get(name) ?? {}
    const data = new Uint8Array(2 * dims.reduce((product, size) => product * size, 1))
    model.graph.removeInitializers(new Set([name]))
    model.graph.addInitializer({ name, dims, dataType: DataType.float16, data })
  }
  return model.toBytes()
}

test('matches the names of transformers to q, k and v of a file of onnxruntime-genai’s builder', () => {
  const layers = findPackedLayers(readModel(grouped))
  const names = (root: string) => ['q', 'k', 'v'].map((part) => `${root}layers.0.self_attn.${part}_proj`)
  const inFile = ['q', 'k', 'v'].map((part) => `model.layers.0.attn.${part}_proj`)
  for (const modules of [names('model.'), names('base_model.model.model.')]) {
    const { matched, unmatched } = matchLayers(layers, modules)
    expect(unmatched).toEqual([])
    expect(Array.from(matched.values(), ({ outFeatures, inFeatures }) => [outFeatures, inFeatures])).toEqual(
      SIZES.map((size) => [size, IN]),
    )
    expect(Array.from(matched.values(), ({ module }) => module)).toEqual(inFile)
  }
})

test('rejects sizes that do not add up to the whole, and parts that overlap', () => {
  const model = readModel(split)
  const [whole] = findLinearLayers(model) as [LinearLayer]
  expect(() => packedParts(whole, [16, 16, 16])).toThrow(
    /expected 32 features in q, k and v together; received 16, 16, 16/,
  )
  const [q] = packedParts(whole, SIZES) as [LinearLayer]
  const entries = adapterOf(q, 1).entries
  const wide = uniformEntries({ shape: [32, 16], n: 4, seed: 1 })
  expect(entriesDigest(entries)).not.toBe(entriesDigest(wide))
  const both = [
    { module: 'a.q', layer: q, entries },
    { module: 'a', layer: whole, entries: wide },
  ]
  expect(() => attachBranches(model, both)).toThrow(/the modules a.q and a are one layer/)
})
