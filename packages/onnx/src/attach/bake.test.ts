/** Compares baked models to models with branches, in ONNX Runtime. */
import {
  createLayer,
  decodeFloats,
  encodeFloats,
  FourierFTError,
  type Layer,
  referenceDelta,
  uniformEntries,
} from '@fourierft/core'
import { type InferenceSession, Tensor } from 'onnxruntime-node'
import { describe, expect, test } from 'vitest'
import { modelBytes, quickOrAllCases } from '../__fixtures__/model-files.js'
import { createSession } from '../__fixtures__/onnx-runtime.js'
import type { LinearLayer } from '../layers/linear-layer.js'
import { findLinearLayers } from '../layers/linear-layers.js'
import { encodeGraph, type NewGraph, type NewTensor } from '../model/encode.js'
import { readModel } from '../model/model.js'
import { DataType, Graph, Model, Tensor as StoredTensor } from '../model/schema.js'
import { field, message } from '../model/wire-message.js'
import { attachBranches } from './attach.js'
import { bakeBranches } from './bake.js'

const FLOAT_FILES = [
  'bert-torchscript',
  'bert-dynamo',
  'gpt2-torchscript',
  'gpt2-dynamo',
  'llama-torchscript',
  'llama-dynamo',
  't5-encoder-torchscript',
  'vit-torchscript',
  'vit-dynamo',
]

const modelOf = (name: string) => readModel(modelBytes(name), { file: name })

function adapterOf({ outFeatures, inFeatures }: LinearLayer, name: string, seed: number): Layer {
  const shape = [outFeatures, inFeatures] as const
  const n = Math.min(40, Math.floor((outFeatures * inFeatures) / 2))
  const entries = uniformEntries({ shape, n, seed })
  const coefficients = Float32Array.from({ length: n }, (_, l) => 20 * Math.sin(2.3 * l + seed))
  return createLayer({ name, shape, entries, coefficients, scaling: 0.5 })
}

function feedsOf(session: InferenceSession): Record<string, Tensor> {
  const [input] = session.inputNames as [string]
  const metadata = session.inputMetadata[0]
  if (metadata?.isTensor && metadata.type === 'float32') {
    const pixels = Float32Array.from({ length: 3 * 8 * 8 }, (_, i) => Math.sin(i))
    return { [input]: new Tensor('float32', pixels, [1, 3, 8, 8]) }
  }
  const ids = BigInt64Array.from({ length: 8 }, (_, i) => BigInt((3 * i) % 20))
  return { [input]: new Tensor('int64', ids, [1, 8]) }
}

test.each(quickOrAllCases(FLOAT_FILES, (name) => ['bert-torchscript', 'gpt2-dynamo'].includes(name)))(
  '%s gives the same output baked as with branches',
  async (name) => {
    const [plain, attached, bakedModel] = [modelOf(name), modelOf(name), modelOf(name)]
    const layers = findLinearLayers(attached)
    const adapters = layers.map((layer, i) => adapterOf(layer, `module.${i}`, i))
    const inputs = attachBranches(
      attached,
      layers.map((layer, i) => {
        const { name: module, entries } = adapters[i]
        return { module, layer, entries }
      }),
    )
    const bakedLayers = findLinearLayers(bakedModel).map((layer, i) => ({ layer, adapters: [adapters[i]] }))
    expect(await bakeBranches(bakedModel, bakedLayers)).toBeUndefined()

    const sessions = await Promise.all(
      [plain, attached, bakedModel].map((model) => createSession(model.toBytes())),
    )
    const [base, withBranches, baked] = sessions as [InferenceSession, InferenceSession, InferenceSession]
    expect(baked.inputNames).toEqual(base.inputNames)
    const feeds = feedsOf(base)
    const active: Record<string, Tensor> = {
      ...feeds,
      [inputs.rows]: new Tensor('int64', BigInt64Array.of(0n), [1]),
    }
    for (const { name: module, coefficients, scaling } of adapters)
      active[inputs.coefficients.get(module) as string] = new Tensor(
        'float32',
        Float32Array.from(coefficients, (c) => scaling * c),
        [1, coefficients.length],
      )
    const [baseResults, expected, received] = [
      await base.run(feeds),
      await withBranches.run(active),
      await baked.run(feeds),
    ]
    for (const output of base.outputNames) {
      const values = expected[output]?.data as Float32Array
      const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
      const distance = (other: Float32Array) =>
        values.reduce((most, value, i) => Math.max(most, Math.abs(value - other[i])), 0) / largest
      // The conformance suite's limit for level 4 in float32.
      expect(distance(received[output]?.data as Float32Array)).toBeLessThan(1e-5)
      expect(distance(baseResults[output]?.data as Float32Array)).toBeGreaterThan(1e-2)
    }
  },
)

const ROWS = 3
const COLUMNS = 5
const numbers = Float64Array.from({ length: ROWS * COLUMNS }, (_, i) => Math.fround(Math.sin(i + 1)))

function modelBytesWith(graph: Partial<NewGraph>): Uint8Array {
  const main = encodeGraph({
    name: 'main',
    nodes: [],
    inputs: [{ name: 'x', dataType: DataType.float, dims: ['T', ROWS] }],
    outputs: [{ name: 'y', dataType: DataType.float, dims: ['T', COLUMNS] }],
    ...graph,
  })
  const parts: Uint8Array[] = []
  message(
    field(Model.irVersion, 8),
    field(Model.graph, main),
    field(Model.opsetImport, message(field(2, 17))),
  ).writeTo(parts)
  return new Uint8Array(Buffer.concat(parts))
}

type WeightType = 'F32' | 'F16' | 'BF16'
const DATA_TYPES = { F32: DataType.float, F16: DataType.float16, BF16: DataType.bfloat16 }

/** `[in, out]` = [3, 5]. */
const weight = (dtype: WeightType = 'F32'): NewTensor & { name: string } => ({
  name: 'w',
  dims: [ROWS, COLUMNS],
  dataType: DATA_TYPES[dtype],
  data: encodeFloats(numbers, dtype),
})

/** W + factor·ΔW in the layout of the weight above, rounded once. */
function expectedSum(adapter: Layer, dtype: WeightType, factor = 1) {
  const change = referenceDelta(adapter)
  const stored = decodeFloats({ dtype, bytes: encodeFloats(numbers, dtype) })
  const sum = Float64Array.from(stored, (value, index) => {
    const [i, o] = [Math.floor(index / COLUMNS), index % COLUMNS]
    return value + factor * change[o * ROWS + i]
  })
  return encodeFloats(sum, dtype)
}

async function bakeOne(bytes: Uint8Array) {
  const model = readModel(bytes)
  const [layer] = findLinearLayers(model) as [LinearLayer]
  const adapter = adapterOf(layer, 'a.q', 1)
  await bakeBranches(model, [{ layer, adapters: [adapter] }])
  return { model: readModel(model.toBytes()), adapter }
}

const product = { name: 'product', opType: 'MatMul', inputs: ['x', 'w'], outputs: ['y'] }

test.each(['F32', 'F16', 'BF16'] as const)('%s: rounds the sum once', async (dtype) => {
  const { model, adapter } = await bakeOne(
    modelBytesWith({ nodes: [product], initializers: [weight(dtype)] }),
  )
  expect(model.graph.initializers.get('w')?.data()).toEqual(expectedSum(adapter, dtype))
  expect(expectedSum(adapter, dtype)).not.toEqual(weight(dtype).data)
})

test('bakes into a float16 weight that is stored as a list of integers', async () => {
  const { data } = weight('F16')
  const integers = new Uint16Array(data.slice().buffer)
  const tensor = message(
    ...[ROWS, COLUMNS].map((size) => field(StoredTensor.dims, size)),
    field(StoredTensor.dataType, DataType.float16),
    field(StoredTensor.name, 'w'),
    ...Array.from(integers, (bits) => field(StoredTensor.int32Data, bits)),
  )
  const main = encodeGraph({ name: 'main', nodes: [product], outputs: [{ name: 'y' }] })
  main.insert([field(Graph.initializer, tensor)])
  const parts: Uint8Array[] = []
  message(field(Model.irVersion, 8), field(Model.graph, main)).writeTo(parts)
  const { model, adapter } = await bakeOne(new Uint8Array(Buffer.concat(parts)))
  expect(model.graph.initializers.get('w')?.data()).toEqual(expectedSum(adapter, 'F16'))
})

test('bakes into a Constant that passes through Identity and two Transposes', async () => {
  const { name: _, ...tensor } = weight()
  const nodes = [
    { opType: 'Constant', inputs: [], outputs: ['w'], attributes: { value: { tensor } } },
    { opType: 'Identity', inputs: ['w'], outputs: ['i'] },
    { opType: 'Transpose', inputs: ['i'], outputs: ['t'] },
    { opType: 'Transpose', inputs: ['t'], outputs: ['u'] },
    { ...product, inputs: ['x', 'u'] },
  ]
  const { model, adapter } = await bakeOne(modelBytesWith({ nodes }))
  expect(model.graph.nodes[0]?.attribute('value')?.tensor?.data()).toEqual(expectedSum(adapter, 'F32'))
})

test('Gemm: divides ΔW by alpha, and transposes it for transB', async () => {
  const nodes = [
    { opType: 'Transpose', inputs: ['w'], outputs: ['t'] },
    {
      ...product,
      opType: 'Gemm',
      inputs: ['x', 't', 'b'],
      attributes: { transB: { int: 1 }, alpha: { float: 4 }, beta: { float: 0.5 } },
    },
  ]
  const bias = { name: 'b', dims: [COLUMNS], dataType: DataType.float, data: new Uint8Array(4 * COLUMNS) }
  const { model, adapter } = await bakeOne(modelBytesWith({ nodes, initializers: [weight(), bias] }))
  expect(model.graph.initializers.get('w')?.data()).toEqual(expectedSum(adapter, 'F32', 1 / 4))
})

test('keeps a weight that another node uses, and gives the layer a baked copy', async () => {
  const nodes = [
    { opType: 'Transpose', inputs: ['w'], outputs: ['t'] },
    { ...product, opType: 'Gemm', inputs: ['x', 't'], attributes: { transB: { int: 1 } } },
    { opType: 'Identity', inputs: ['w'], outputs: ['z'] },
  ]
  const bytes = modelBytesWith({ nodes, initializers: [weight()], outputs: [{ name: 'y' }, { name: 'z' }] })
  const { model, adapter } = await bakeOne(bytes)
  expect(model.graph.initializers.get('w')?.data()).toEqual(weight().data)
  const copy = model.graph.initializers.get('w.merged.a.q')
  expect(copy?.dims).toEqual([COLUMNS, ROWS])
  const sum = decodeFloats({ dtype: 'F32', bytes: expectedSum(adapter, 'F32') })
  const x = new Tensor('float32', Float32Array.of(1, 0, 0, 0, 1, 0, 0, 0, 1), [3, 3])
  const session = await createSession(model.toBytes())
  // The product with the identity matrix is exact.
  expect((await session.run({ x })).y?.data).toEqual(sum)
})

describe('external data', () => {
  const external = { location: 'w.bin', offset: 8, length: undefined }
  const read = (location: string, offset: number, length: number) => {
    expect([location, offset, length]).toEqual(['w.bin', 8, 60])
    return weight().data
  }
  const openModel = () => {
    const model = readModel(modelBytesWith({ nodes: [product], initializers: [weight()] }))
    model.graph.initializers.get('w')?.setData(external)
    const again = readModel(model.toBytes())
    expect(again.graph.initializers.get('w')?.external).toEqual(external)
    const [layer] = findLinearLayers(again) as [LinearLayer]
    return { model: again, layer, adapter: adapterOf(layer, 'a.q', 1) }
  }

  test('stores small baked data in the model', async () => {
    const { model, layer, adapter } = openModel()
    expect(
      await bakeBranches(model, [{ layer, adapters: [adapter] }], { readExternal: read }),
    ).toBeUndefined()
    const tensor = readModel(model.toBytes()).graph.initializers.get('w')
    expect(tensor?.external).toBeUndefined()
    expect(tensor?.data()).toEqual(expectedSum(adapter, 'F32'))
  })

  test('stores baked data over the limit in a new file, which ONNX Runtime reads', async () => {
    const { model, layer, adapter } = openModel()
    const options = {
      readExternal: async (...range: Parameters<typeof read>) => read(...range),
      inlineUpTo: 59,
    }
    const newFile = await bakeBranches(model, [{ layer, adapters: [adapter] }], options)
    expect(newFile).toEqual({ location: 'merged-weights.bin', parts: [expectedSum(adapter, 'F32')] })
    expect(readModel(model.toBytes()).graph.initializers.get('w')?.external).toEqual({
      location: 'merged-weights.bin',
      offset: 0,
      length: 60,
    })
    const data = new Uint8Array(Buffer.concat(newFile?.parts ?? []))
    const session = await createSession(model.toBytes(), {
      externalData: [{ path: 'merged-weights.bin', data }],
    })
    const x = new Tensor('float32', Float32Array.of(1, 0, 0, 0, 1, 0, 0, 0, 1), [3, 3])
    const sum = decodeFloats({ dtype: 'F32', bytes: expectedSum(adapter, 'F32') })
    expect((await session.run({ x })).y?.data).toEqual(sum)
  })

  test('rejects more data than fit into an ONNX file before it reads any', async () => {
    const bytes = 4096 * 4096 * 4
    const names = Array.from({ length: 33 }, (_, i) => `w${i}`)
    const model = readModel(
      modelBytesWith({
        nodes: names.map((name, i) => ({
          opType: 'MatMul',
          inputs: [`v${i}`, name],
          outputs: [`v${i + 1}`],
        })),
        initializers: names.map((name) => ({
          name,
          dims: [4096, 4096],
          dataType: DataType.float,
          data: new Uint8Array(),
        })),
      }),
    )
    for (const [i, name] of names.entries())
      model.graph.initializers.get(name)?.setData({ location: 'w.bin', offset: i * bytes, length: bytes })
    const again = readModel(model.toBytes())
    const before = again.toBytes()
    const updates = names.map((name) => ({
      layer: findLinearLayers(again).find(({ weight }) => weight === name) as LinearLayer,
      adapters: [],
    }))
    const failOnRead = (): Uint8Array => {
      throw new Error('read')
    }
    const bake = (layers: typeof updates, inlineUpTo: number) =>
      bakeBranches(again, layers, { readExternal: failOnRead, inlineUpTo })
    await expect(bake(updates, bytes)).rejects.toMatchObject({ code: 'FILE_TOO_LARGE' })
    // The model fits if the weights stay external, or if there are fewer.
    await expect(bake(updates, bytes - 1)).rejects.toThrow('read')
    await expect(bake(updates.slice(2), bytes)).rejects.toThrow('read')
    expect(again.toBytes()).toEqual(before)
  })

  test.each([
    ['external data without readExternal', {}, 'INVALID_OPTION'],
    ['too few bytes', { readExternal: () => new Uint8Array(3) }, 'IO_ERROR'],
    ["the model's own file", { readExternal: read, location: 'w.bin' }, 'INVALID_OPTION'],
  ])('rejects %s', async (_, options, code) => {
    const { model, layer, adapter } = openModel()
    const before = model.toBytes()
    expect(await codeOf(bakeBranches(model, [{ layer, adapters: [adapter] }], options))).toBe(code)
    expect(model.toBytes()).toEqual(before)
  })
})

async function codeOf(baking: Promise<unknown>): Promise<string | undefined> {
  try {
    await baking
    return undefined
  } catch (error) {
    return FourierFTError.isInstance(error) ? error.code : String(error)
  }
}

test.each(['bert-q8', 'bert-q4'])(
  '%s: rejects quantised weights, and leaves the model unchanged',
  async (name) => {
    const model = modelOf(name)
    const before = model.toBytes()
    const [layer] = findLinearLayers(model) as [LinearLayer]
    const baking = bakeBranches(model, [{ layer, adapters: [adapterOf(layer, 'a', 1)] }])
    await expect(baking).rejects.toThrow(/is quantised; keep the adapter as a branch.*float weights/)
    expect(model.toBytes()).toEqual(before)
  },
)

test('rejects a weight that the graph dequantises', async () => {
  const scale = { name: 's', dims: [], dataType: DataType.float, data: new Uint8Array([0, 0, 128, 63]) }
  const quantised = { ...weight(), dataType: DataType.int8, data: new Uint8Array(ROWS * COLUMNS) }
  const nodes = [
    { opType: 'DequantizeLinear', inputs: ['w', 's'], outputs: ['f'] },
    { ...product, inputs: ['x', 'f'] },
  ]
  await expect(bakeOne(modelBytesWith({ nodes, initializers: [quantised, scale] }))).rejects.toThrow(
    /is quantised/,
  )
})

test('rejects invalid layers and adapters', async () => {
  const bytes = modelBytesWith({ nodes: [product], initializers: [weight('F16')] })
  const model = readModel(bytes)
  const [layer] = findLinearLayers(model) as [LinearLayer]
  const adapter = adapterOf(layer, 'a', 1)
  const baked = { layer, adapters: [adapter] }
  const widerLayer = { ...layer, outFeatures: 6 }
  expect(await codeOf(bakeBranches(model, []))).toBe('INVALID_OPTION')
  expect(await codeOf(bakeBranches(model, [baked, baked]))).toBe('INVALID_OPTION')
  expect(await codeOf(bakeBranches(model, [{ layer: widerLayer, adapters: [adapter] }]))).toBe(
    'SHAPE_MISMATCH',
  )
  const huge = createLayer({ ...adapter, scaling: 1e7 })
  expect(await codeOf(bakeBranches(model, [{ layer, adapters: [huge] }]))).toBe('NOT_FINITE')
  expect(model.toBytes()).toEqual(bytes)
})
