/**
 * Branches inside `com.microsoft` `Attention`: models fused by ONNX Runtime's optimizer against the same models before the fusion, and each
 * variant of the operator against itself with ΔW in its weight.
 */
import { createLayer, decodeFloats, type Layer, uniformEntries } from '@fourierft/core'
import { Tensor } from 'onnxruntime-node'
import { describe, expect, test } from 'vitest'
import { modelBytes, quickOrAllCases } from '../__fixtures__/model-files.js'
import { createSession } from '../__fixtures__/onnx-runtime.js'
import type { LinearLayer } from '../layers/linear-layer.js'
import { findLinearLayers } from '../layers/linear-layers.js'
import { findPackedLayers, packedParts } from '../layers/packed-layers.js'
import { createModel } from '../model/create-model.js'
import type { NewAttribute, NewTensor, NewValue } from '../model/encode.js'
import { type OnnxModel, readModel } from '../model/model.js'
import { DataType } from '../model/schema.js'
import { attachBranches } from './attach.js'
import { bakeBranches } from './bake.js'
import { detachBranches } from './detach.js'

type Feeds = Record<string, Tensor>

async function run(bytes: Uint8Array, feeds: Feeds): Promise<Record<string, Float32Array>> {
  const session = await createSession(bytes)
  const results = await session.run(feeds)
  await session.release()
  return Object.fromEntries(Object.entries(results).map(([name, { data }]) => [name, data as Float32Array]))
}

/** `max |a − b|` over `max |b|`. */
function difference(a: Float32Array | undefined, b: Float32Array | undefined): number {
  expect(a?.length).toBe(b?.length)
  const largest = b?.reduce((most, value) => Math.max(most, Math.abs(value)), 0) ?? 0
  return (
    (b ?? new Float32Array()).reduce(
      (most, value, i) => Math.max(most, Math.abs(value - (a?.[i] ?? NaN))),
      0,
    ) / largest
  )
}

const N = 12
function adapterOf(module: string, { outFeatures, inFeatures }: LinearLayer, seed: number): Layer {
  const shape = [outFeatures, inFeatures] as const
  const coefficients = Float32Array.from({ length: N }, (_, l) => 20 * Math.sin(2.3 * l + seed))
  return createLayer({
    name: module,
    shape,
    entries: uniformEntries({ shape, n: N, seed: 7 + (seed % 2) }),
    coefficients,
    scaling: 1,
  })
}

/** The model with branches on the layers, and the feeds of its new inputs. */
function attached(model: OnnxModel, layers: ReadonlyMap<string, LinearLayer>) {
  const adapters = Array.from(layers, ([module, layer], i) => adapterOf(module, layer, i))
  const inputs = attachBranches(
    model,
    adapters.map(({ name, entries }) => ({ module: name, layer: layers.get(name) as LinearLayer, entries })),
  )
  const feeds = (isActive: boolean): Feeds => ({
    [inputs.rows]: new Tensor('int64', BigInt64Array.of(0n), [1]),
    ...Object.fromEntries(
      adapters.map(({ name, coefficients }) => [
        inputs.coefficients.get(name),
        new Tensor('float32', isActive ? Float32Array.from(coefficients) : new Float32Array(), [
          isActive ? 1 : 0,
          N,
        ]),
      ]),
    ),
  })
  return { model, feeds, adapters }
}

const PARTS = ['q', 'k', 'v'] as const
const NAMES = { q: 'query', k: 'key', v: 'value' }
const ids = new Tensor(
  'int64',
  BigInt64Array.from({ length: 16 }, (_, i) => BigInt((3 * i) % 20)),
  [2, 8],
)
const mask = new Tensor(
  'int64',
  BigInt64Array.from({ length: 16 }, (_, i) => (i < 13 ? 1n : 0n)),
  [2, 8],
)

/** Branches on the same modules, named `block.part`, of the fused and of the plain model. */
function fusedAndPlain(name: string, parts: readonly (typeof PARTS)[number][]) {
  const fused = readModel(modelBytes(`${name}-fused`))
  const plain = readModel(modelBytes(`${name}-plain`))
  const [fusedLayers, plainLayers] = [new Map<string, LinearLayer>(), new Map<string, LinearLayer>()]
  const packed = findPackedLayers(fused)
  const linear = findLinearLayers(plain)
  const products = linear.filter(({ module }) => module?.endsWith('c_attn'))
  for (const block of [0, 1]) {
    const heads = products[block] ? packedParts(products[block], [16, 16, 16]) : []
    for (const part of parts) {
      const module = `${block}.${part}`
      const fusedLayer = packed.filter((layer) => layer.part?.name === part)[block]
      const plainLayer =
        heads.find((layer) => layer.part?.name === part) ??
        linear.find((layer) => layer.module?.endsWith(`layer.${block}.attention.self.${NAMES[part]}`))
      if (!fusedLayer || !plainLayer) throw new Error('a fixture has no attention')
      fusedLayers.set(module, fusedLayer)
      plainLayers.set(module, plainLayer)
    }
  }
  return { fused: attached(fused, fusedLayers), plain: attached(plain, plainLayers) }
}

describe.each(quickOrAllCases(['bert', 'gpt2'], (name) => name === 'bert'))(
  '%s, fused by ONNX Runtime’s optimizer',
  (name) => {
    const feeds: Feeds = name === 'bert' ? { x: ids, mask } : { x: ids }

    test('without adapters it gives the original output, bit for bit', async () => {
      const { fused } = fusedAndPlain(name, PARTS)
      const received = await run(fused.model.toBytes(), { ...feeds, ...fused.feeds(false) })
      expect(received).toEqual(await run(modelBytes(`${name}-fused`), feeds))
    })

    test.each([{ parts: PARTS }, { parts: ['q', 'v'] }, { parts: ['k'] }] as const)(
      'adapters on $parts act as in the model before the fusion',
      async ({ parts }) => {
        const { fused, plain } = fusedAndPlain(name, parts)
        const received = await run(fused.model.toBytes(), { ...feeds, ...fused.feeds(true) })
        const expected = await run(plain.model.toBytes(), { ...feeds, ...plain.feeds(true) })
        const base = await run(modelBytes(`${name}-fused`), feeds)
        // BERT's head reads only the first token, whose output a change of k only changes little.
        expect(difference(received.y, base.y)).toBeGreaterThan(1e-4)
        // Two layers with sums of at most 32 products, 2·12 products of the branch, a softmax of 8 and LayerNorms, in two orders. Neither model
        // approximates GELU.
        expect(difference(received.y, expected.y)).toBeLessThan(8 * (32 + 24) * 2 ** -24)
      },
    )

    test('detaching gives the original bytes', () => {
      const bytes = modelBytes(`${name}-fused`)
      const { fused } = fusedAndPlain(name, PARTS)
      const again = readModel(fused.model.toBytes())
      detachBranches(again)
      expect(Buffer.compare(again.toBytes(), bytes)).toBe(0)
      detachBranches(fused.model)
      expect(Buffer.compare(fused.model.toBytes(), bytes)).toBe(0)
    })
  },
)

test('float16 gives the output of float32', async () => {
  const layersOf = (model: OnnxModel) =>
    new Map(findPackedLayers(model).map((layer) => [`${layer.node.name}.${layer.part?.name}`, layer]))
  const [half, single] = ['bert-half-fused', 'bert-fused'].map((name) => {
    const model = readModel(modelBytes(name))
    return attached(model, layersOf(model))
  }) as [ReturnType<typeof attached>, ReturnType<typeof attached>]
  const feeds = { x: ids, mask }
  const { y } = await run(half.model.toBytes(), { ...feeds, ...half.feeds(true) })
  const expected = await run(single.model.toBytes(), { ...feeds, ...single.feeds(true) })
  const bits = y as unknown as Uint16Array
  const bytes = new Uint8Array(bits.buffer, bits.byteOffset, bits.byteLength)
  const received = Float32Array.from(decodeFloats({ dtype: 'F16', bytes }))
  // Two blocks of about ten values each are rounded to half precision, and so are the weights.
  expect(difference(received, expected.y)).toBeLessThan(2 * 2 * 10 * 2 ** -11)
})

const [BATCH, TOKENS, PAST, HEADS, IN] = [2, 5, 3, 2, 12]
const floats = (dims: readonly number[], phase: number) => {
  const length = dims.reduce((product, size) => product * size, 1)
  return new Tensor(
    'float32',
    Float32Array.from({ length }, (_, i) => Math.sin(1.3 * i + phase)),
    dims,
  )
}
const integers = (values: readonly number[], dims: readonly number[]) =>
  new Tensor('int32', Int32Array.from(values), dims)

/** The attributes and optional inputs of an `Attention`. */
interface Variant {
  /** The features of q and of k, and those of v. */
  readonly sizes?: readonly [number, number]
  readonly attributes?: Record<string, NewAttribute>
  readonly feeds?: Record<string, Tensor>
}

const keys = (total: number) =>
  integers(
    Array.from({ length: BATCH * total }, (_, i) => (i < BATCH * total - 2 ? 1 : 0)),
    [BATCH, total],
  )

const VARIANTS: Record<string, Variant> = {
  'no mask': {},
  'a mask of the keys': { feeds: { mask: keys(TOKENS) } },
  'the number of keys of each row': { feeds: { mask: integers([5, 3], [BATCH]) } },
  'a mask of queries and keys': {
    feeds: {
      mask: integers(
        Array.from({ length: BATCH * TOKENS * TOKENS }, (_, i) => (i % 4 === 3 ? 0 : 1)),
        [BATCH, TOKENS, TOKENS],
      ),
    },
  },
  unidirectional: { attributes: { unidirectional: { int: 1 } } },
  'a scale and another filter value': {
    attributes: { scale: { float: 0.3 }, mask_filter_value: { float: -20 } },
    feeds: { mask: keys(TOKENS) },
  },
  'an attention bias': { feeds: { attention_bias: floats([1, HEADS, TOKENS, TOKENS], 5) } },
  'v of another size': { sizes: [8, 16] },
  'past and present': { feeds: { past: floats([2, BATCH, HEADS, PAST, 4], 6) } },
  'past, unidirectional, a mask of the keys': {
    attributes: { unidirectional: { int: 1 } },
    feeds: { past: floats([2, BATCH, HEADS, PAST, 4], 6), mask: keys(TOKENS + PAST) },
  },
}

function attentionModel({ sizes: [qk, v] = [8, 8], attributes = {}, feeds = {} }: Variant) {
  const width = 2 * qk + v
  const bytes = ({ data }: Tensor) => new Uint8Array((data as Float32Array).buffer)
  const constants: (NewTensor & { name: string })[] = [
    { name: 'w', dims: [IN, width], dataType: DataType.float, data: bytes(floats([IN, width], 1)) },
    { name: 'b', dims: [width], dataType: DataType.float, data: bytes(floats([width], 2)) },
  ]
  const inputs: NewValue[] = Object.entries(feeds).map(([name, { type, dims }]) => ({
    name,
    dataType: type === 'int32' ? DataType.int32 : DataType.float,
    dims: dims.map((_, i) => `${name}_${i}`),
  }))
  const optional = ['mask', 'past', 'attention_bias'].map((name) => (feeds[name] ? name : ''))
  const outputs = ['y', ...(feeds.past ? ['present'] : [])]
  const nodeInputs = ['x', 'w', 'b', ...optional]
  const model = createModel(
    {
      name: 'main',
      inputs: [{ name: 'x', dataType: DataType.float, dims: ['batch', 'tokens', IN] }, ...inputs],
      outputs: outputs.map((name) => ({ name, dataType: DataType.float, dims: outputDims(name) })),
      initializers: constants,
      nodes: [
        {
          name: 'Attention_0',
          opType: 'Attention',
          domain: 'com.microsoft',
          inputs: nodeInputs.slice(0, nodeInputs.findLastIndex((name) => name !== '') + 1),
          outputs,
          attributes: { num_heads: { int: HEADS }, qkv_hidden_sizes: { ints: [qk, qk, v] }, ...attributes },
        },
      ],
    },
    { opset: 17 },
  )
  model.addOpsetImport('com.microsoft', 1)
  return model
}

const outputDims = (name: string) =>
  name === 'y' ? ['batch', 'tokens', 'features'] : ['two', 'batch', 'heads', 'total', 'size']

const QUICK_VARIANTS = ['no mask', 'v of another size', 'past, unidirectional, a mask of the keys']

test.each(quickOrAllCases(Object.entries(VARIANTS), ([name]) => QUICK_VARIANTS.includes(name)))(
  '%s: adapters act as ΔW in the weight; without adapters it gives the original output, bit for bit',
  async (_, variant) => {
    const original = attentionModel(variant).toBytes()
    const layersOf = (model: OnnxModel) =>
      new Map(findPackedLayers(model).map((layer) => [`a.${layer.part?.name}`, layer]))
    const model = readModel(original)
    const { feeds, adapters } = attached(model, layersOf(model))
    const inputs = { x: floats([BATCH, TOKENS, IN], 3), ...variant.feeds }
    const base = await run(original, inputs)
    const file = model.toBytes()
    expect(await run(file, { ...inputs, ...feeds(false) })).toEqual(base)

    const bakedModel = readModel(original)
    const layers = layersOf(bakedModel)
    await bakeBranches(
      bakedModel,
      adapters.map((adapter) => ({ layer: layers.get(adapter.name) as LinearLayer, adapters: [adapter] })),
    )
    const expected = await run(bakedModel.toBytes(), inputs)
    const received = await run(file, { ...inputs, ...feeds(true) })
    expect(Object.keys(received)).toEqual(Object.keys(base))
    for (const name of Object.keys(base)) {
      expect(difference(received[name], base[name])).toBeGreaterThan(1e-2)
      // Sums of 12 products, and 2·12 of the branch. The relative error of a softmax is the absolute error of its scores, which are below 100.
      expect(difference(received[name], expected[name])).toBeLessThan(100 * (12 + 24) * 2 ** -24)
    }
    detachBranches(model)
    expect(Buffer.compare(model.toBytes(), original)).toBe(0)
  },
)

test.each([
  ['do_rotary', { attributes: { do_rotary: { int: 1 } } }],
  ['past_present_share_buffer', { attributes: { past_present_share_buffer: { int: 1 } } }],
  ['4 dimensions', { feeds: { mask: integers([], [0, 1, 8, 8]) } }],
])('rejects %s with the node and advice, and leaves the model unchanged', (problem, variant) => {
  const original = attentionModel(variant).toBytes()
  const model = readModel(original)
  const [q] = findPackedLayers(model)
  const attach = () => attached(model, new Map([['a.q', q]]))
  expect(attach).toThrow(new RegExp(`module a.q is inside node Attention_0 .*${problem}.*bakeBranches`))
  expect(Buffer.compare(model.toBytes(), original)).toBe(0)
})
