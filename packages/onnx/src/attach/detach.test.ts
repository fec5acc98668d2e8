/** Detaching gives the original file, byte for byte, also after the attached model was written and read. */
import { uniformEntries } from '@fourierft/core'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { MODEL_NAMES, modelBytes, quickOrAllCases } from '../__fixtures__/model-files.js'
import { findLinearLayers } from '../layers/linear-layers.js'
import { encodeEntry, encodeGraph, type NewNode } from '../model/encode.js'
import { readModel } from '../model/model.js'
import { DataType, Graph, Model, Tensor } from '../model/schema.js'
import { field, floatField, message } from '../model/wire-message.js'
import { attachBranches } from './attach.js'
import { ORIGINAL_METADATA_KEY } from './check-attachable.js'
import { detachBranches } from './detach.js'

const QUICK_NAMES = ['bert-half', 'bert-qdq', 'gpt2-q4', 'llama-q8', 'unet-attention-batch', 'vit-dynamo']

/** Reads a model and attaches branches to the chosen layers. */
function attached(bytes: Uint8Array, isChosen: (i: number) => boolean) {
  const model = readModel(bytes)
  const layers = findLinearLayers(model).filter((_, i) => isChosen(i))
  const branches = layers.map((layer, i) => {
    const shape = [layer.outFeatures, layer.inFeatures] as const
    return { module: `module.${i}`, layer, entries: uniformEntries({ shape, n: 2, seed: i }) }
  })
  if (branches.length > 0) attachBranches(model, branches)
  return { model, count: branches.length }
}

function roundTrip(bytes: Uint8Array, isChosen: (i: number) => boolean) {
  const { model, count } = attached(bytes, isChosen)
  if (count === 0) return bytes
  const file = model.toBytes()
  expect(file.length).toBeGreaterThan(bytes.length)
  const again = readModel(file)
  detachBranches(again)
  detachBranches(model)
  expect(Buffer.compare(model.toBytes(), bytes)).toBe(0)
  return again.toBytes()
}

/** Layers outside and inside an `If` in an `If`, with external weights and unknown fields. */
function nested(
  irVersion: number,
  unknown: { number: number; payload: Uint8Array },
  dataType: number = DataType.float,
) {
  const product = (x: string, y: string): NewNode => ({
    name: `/${y}/MatMul`,
    opType: 'MatMul',
    inputs: [x, 'w'],
    outputs: [y],
  })
  const choice = (y: string, inner: readonly NewNode[], output: string): NewNode => ({
    name: y,
    opType: 'If',
    inputs: ['b'],
    outputs: [y],
    attributes: {
      then_branch: { graph: { name: 'then', nodes: inner, outputs: [{ name: output }] } },
      else_branch: {
        graph: { name: 'else', nodes: [product('y', `${y}_else`)], outputs: [{ name: `${y}_else` }] },
      },
    },
  })
  const graph = encodeGraph({
    name: 'main',
    nodes: [product('x', 'y'), choice('outer', [choice('inner', [product('y', 'deep')], 'deep')], 'inner')],
    inputs: [
      { name: 'x', dataType: DataType.float, dims: ['T', 4] },
      { name: 'b', dataType: DataType.bool, dims: [] },
    ],
    outputs: [{ name: 'outer' }],
    initializers: [{ name: 'w', dims: [4, 4], dataType, data: new Uint8Array() }],
  })
  const external = [
    encodeEntry('location', 'w.bin'),
    encodeEntry('offset', '4096'),
    encodeEntry('length', '64'),
  ]
  graph
    .last(Graph.initializer)
    ?.editableMessage('w')
    .insert([...external.map((entry) => field(Tensor.external, entry)), field(Tensor.location, 1)])
  const unknownField = field(unknown.number, unknown.payload)
  graph.insert([unknownField], graph.last(Graph.node))
  graph
    .last(Graph.node)
    ?.editableMessage('a node')
    .insert([unknownField, floatField(901, 0.5)])
  const parts: Uint8Array[] = []
  message(
    field(Model.irVersion, irVersion),
    unknownField,
    field(Model.graph, graph),
    field(Model.metadata, encodeEntry('author', 'nobody')),
    field(Model.opsetImport, message(field(1, ''), field(2, 17))),
    unknownField,
  ).writeTo(parts)
  return new Uint8Array(Buffer.concat(parts))
}

describe.each(quickOrAllCases(MODEL_NAMES, (name) => QUICK_NAMES.includes(name)))('%s', (name) => {
  test('detaching gives the original bytes', () => {
    const bytes = modelBytes(name)
    expect(
      Buffer.compare(
        roundTrip(bytes, () => true),
        bytes,
      ),
    ).toBe(0)
    expect(
      Buffer.compare(
        roundTrip(bytes, (i) => i % 2 > 0),
        bytes,
      ),
    ).toBe(0)
  })
})

test('keeps unknown fields, subgraphs and external data, for any IR version and any choice of layers', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 3, max: 13 }),
      fc.record({ number: fc.integer({ min: 100, max: 2 ** 29 - 1 }), payload: fc.uint8Array() }),
      fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
      fc.constantFrom<number>(DataType.float, DataType.float16),
      (irVersion, unknown, chosen, dataType) => {
        const bytes = nested(irVersion, unknown, dataType)
        expect(roundTrip(bytes, (i) => chosen[i] === true)).toEqual(bytes)
      },
    ),
  )
})

test('the nested model has four layers', () => {
  expect(attached(nested(8, { number: 100, payload: new Uint8Array() }), () => true).count).toBe(4)
})

describe('rejects', () => {
  const bytes = nested(8, { number: 100, payload: new Uint8Array() })
  const codeOf = (detach: () => unknown) => {
    try {
      detach()
      return undefined
    } catch (error) {
      return (error as { code?: string }).code
    }
  }

  test('a model without branches', () => {
    const model = readModel(bytes)
    expect(codeOf(() => detachBranches(model))).toBe('INVALID_STATE')
    expect(model.toBytes()).toEqual(bytes)
  })

  test.each([
    ['irVersion', 'abc'],
    ['irVersion', 1.5],
    ['irVersion', null],
    ['irVersion', 1e300],
    ['irVersion', {}],
    ['irVersion', -1],
    ['irVersion', undefined],
    ['size', '100'],
    ['size', 2 ** 60],
    ['attachedSize', [100]],
  ])('forged metadata: %s is %j', (key, forged) => {
    const { model } = attached(bytes, () => true)
    const original = JSON.parse(model.metadata.get(ORIGINAL_METADATA_KEY) ?? '')
    model.removeMetadata(ORIGINAL_METADATA_KEY)
    model.addMetadata(ORIGINAL_METADATA_KEY, JSON.stringify({ ...original, [key]: forged }))
    const file = model.toBytes()
    const read = readModel(file, { file: 'forged.onnx' })
    expect(codeOf(() => detachBranches(read))).toBe('INVALID_ONNX')
    expect(() => detachBranches(read)).toThrow(/forged\.onnx.*fourierft\.original/)
    expect(read.toBytes()).toEqual(file)
  })

  test.each(['null', '[]', '7', '"text"', '{}'])('forged metadata: %s', (text) => {
    const { model } = attached(bytes, () => true)
    model.removeMetadata(ORIGINAL_METADATA_KEY)
    model.addMetadata(ORIGINAL_METADATA_KEY, text)
    expect(codeOf(() => detachBranches(model))).toBe('INVALID_ONNX')
  })

  test('a model that was edited after attaching, and leaves it unchanged', () => {
    const { model } = attached(bytes, () => true)
    model.graph.addOutput({ name: 'y' })
    const edited = model.toBytes()
    expect(codeOf(() => detachBranches(model))).toBe('INVALID_STATE')
    expect(model.toBytes()).toEqual(edited)
  })

  test('a model that encoded lengths in more bytes than necessary, but removes the branches', () => {
    // The graph's tag, and its length in one byte more than needed.
    const graph = encodeGraph({
      name: 'g',
      nodes: [{ opType: 'MatMul', inputs: ['x', 'w'], outputs: ['y'] }],
      inputs: [{ name: 'x', dataType: DataType.float, dims: ['T', 2] }],
      outputs: [{ name: 'y' }],
      initializers: [{ name: 'w', dims: [2, 2], dataType: DataType.float, data: new Uint8Array(16) }],
    })
    const body: Uint8Array[] = []
    graph.writeTo(body)
    const header: Uint8Array[] = []
    message(field(Model.irVersion, 8), field(Model.opsetImport, message(field(2, 17)))).writeTo(header)
    const { size } = graph
    const graphHeader = new Uint8Array([(Model.graph << 3) | 2, (size & 127) | 128, (size >> 7) | 128, 0])
    const { model } = attached(new Uint8Array(Buffer.concat([...header, graphHeader, ...body])), () => true)
    expect(codeOf(() => detachBranches(model))).toBe('NOT_REPRODUCIBLE')
    expect(model.graph.nodes.map(({ outputs }) => outputs)).toEqual([['y']])
  })
})
