/** attach → file → read → detach gives the original file, byte for byte. */
import { readdirSync, readFileSync } from 'node:fs'
import { uniformEntries } from '@fourierft/core'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { findLinearLayers } from '../layers/linear-layers.js'
import { encodeEntry, encodeGraph, type NewNode } from '../model/encode.js'
import { readModel } from '../model/model.js'
import { DataType, Graph, Model, Tensor } from '../model/schema.js'
import { field, floatField, message } from '../model/wire-message.js'
import { attachBranches } from './attach.js'
import { ORIGINAL } from './check-attachable.js'
import { detachBranches } from './detach.js'

const folder = new URL('../__fixtures__/', import.meta.url)
const fixtures = readdirSync(folder)
  .filter((name) => name.endsWith('.onnx'))
  .map((name) => ({ name, bytes: new Uint8Array(readFileSync(new URL(name, folder))) }))

/** Branches on the layers that are chosen, in a model that is read from the bytes. */
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

/** Layers outside and in the branches of an `If` in an `If`, their weights external, with fields that nobody knows. */
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
  const place = [encodeEntry('location', 'w.bin'), encodeEntry('offset', '4096'), encodeEntry('length', '64')]
  graph
    .last(Graph.initializer)
    ?.message('w')
    .insert([...place.map((entry) => field(Tensor.external, entry)), field(Tensor.location, 1)])
  const strange = field(unknown.number, unknown.payload)
  graph.insert([strange], graph.last(Graph.node))
  graph
    .last(Graph.node)
    ?.message('a node')
    .insert([strange, floatField(901, 0.5)])
  const parts: Uint8Array[] = []
  message(
    field(Model.irVersion, irVersion),
    strange,
    field(Model.graph, graph),
    field(Model.metadata, encodeEntry('author', 'nobody')),
    field(Model.opsetImport, message(field(1, ''), field(2, 17))),
    strange,
  ).writeTo(parts)
  return new Uint8Array(Buffer.concat(parts))
}

describe.each(fixtures)('$name', ({ bytes }) => {
  test('the bytes come back', () => {
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

test('unknown fields, subgraphs, external data, any IR version, any choice of layers', () => {
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

test('all four layers of the nested model are found', () => {
  expect(attached(nested(8, { number: 100, payload: new Uint8Array() }), () => true).count).toBe(4)
})

describe('refused', () => {
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
    const original = JSON.parse(model.metadata.get(ORIGINAL) ?? '')
    model.removeMetadata(ORIGINAL)
    model.addMetadata(ORIGINAL, JSON.stringify({ ...original, [key]: forged }))
    const file = model.toBytes()
    const read = readModel(file, { file: 'forged.onnx' })
    expect(codeOf(() => detachBranches(read))).toBe('INVALID_ONNX')
    expect(() => detachBranches(read)).toThrow(/forged\.onnx.*fourierft\.original/)
    expect(read.toBytes()).toEqual(file)
  })

  test.each(['null', '[]', '7', '"text"', '{}'])('forged metadata: %s', (text) => {
    const { model } = attached(bytes, () => true)
    model.removeMetadata(ORIGINAL)
    model.addMetadata(ORIGINAL, text)
    expect(codeOf(() => detachBranches(model))).toBe('INVALID_ONNX')
  })

  test('a model that was edited since, which stays as it is', () => {
    const { model } = attached(bytes, () => true)
    model.graph.addOutput({ name: 'y' })
    const edited = model.toBytes()
    expect(codeOf(() => detachBranches(model))).toBe('INVALID_STATE')
    expect(model.toBytes()).toEqual(edited)
  })

  test('lengths that were not written in the shortest form', () => {
    // The graph's tag and its length in one byte more than it takes.
    const graph = encodeGraph({
      name: 'g',
      nodes: [{ opType: 'MatMul', inputs: ['x', 'w'], outputs: ['y'] }],
      inputs: [{ name: 'x', dataType: DataType.float, dims: ['T', 2] }],
      outputs: [{ name: 'y' }],
      initializers: [{ name: 'w', dims: [2, 2], dataType: DataType.float, data: new Uint8Array(16) }],
    })
    const body: Uint8Array[] = []
    graph.writeTo(body)
    const head: Uint8Array[] = []
    message(field(Model.irVersion, 8), field(Model.opsetImport, message(field(2, 17)))).writeTo(head)
    const { size } = graph
    const long = new Uint8Array([(Model.graph << 3) | 2, (size & 127) | 128, (size >> 7) | 128, 0])
    const { model } = attached(new Uint8Array(Buffer.concat([...head, long, ...body])), () => true)
    expect(codeOf(() => detachBranches(model))).toBe('NOT_REPRODUCIBLE')
    expect(model.graph.nodes.map(({ outputs }) => outputs)).toEqual([['y']])
  })
})
