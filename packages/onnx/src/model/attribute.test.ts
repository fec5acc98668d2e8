/** The attributes of nodes: listing, editing and copying them. */
import { expect, test } from 'vitest'
import { copiedAttributes } from './attribute.js'
import { createModel } from './create-model.js'
import { encodeNode, type NewAttribute } from './encode.js'
import { type OnnxModel, readModel } from './model.js'
import { Attribute, DataType, Node } from './schema.js'
import { field, floatField, message, type WireField } from './wire-message.js'

const data = new Uint8Array(Float32Array.of(1, 2).buffer)

const ATTRIBUTES = {
  alpha: { float: 0.5 },
  axis: { int: -1n },
  mode: { string: 'linear' },
  scales: { floats: [1, 2] },
  perm: { ints: [1n, 0n] },
  value: { tensor: { dims: [2], dataType: DataType.float, data } },
  taken: { reference: 'outer', type: 'int' },
  body: { graph: { name: 'g', nodes: [], outputs: [] } },
} satisfies Record<string, NewAttribute>

function nodeOf(model: OnnxModel) {
  const [node] = readModel(model.toBytes()).graph.nodes
  if (!node) throw new Error('the model has no node')
  return node
}

function withNode(attributes: Record<string, NewAttribute>) {
  const node = { opType: 'Op', inputs: ['x'], outputs: ['y'], attributes }
  return createModel({ name: 'main', nodes: [node], outputs: [] }, { opset: 17 })
}

test('lists names and types in the order of the file, with the values that a search by name gives', () => {
  const node = nodeOf(withNode(ATTRIBUTES))
  expect(Array.from(node.attributes, ([name, { type }]) => [name, type])).toEqual([
    ['alpha', 'float'],
    ['axis', 'int'],
    ['mode', 'string'],
    ['scales', 'floats'],
    ['perm', 'ints'],
    ['value', 'tensor'],
    ['taken', 'int'],
    ['body', 'graph'],
  ])
  for (const [name, attribute] of node.attributes) {
    expect(attribute.name).toBe(name)
    const { float, int, string, ints, floats, reference } = node.attribute(name) ?? {}
    expect(attribute).toMatchObject({ ints, floats })
    expect([attribute.float, attribute.int, attribute.string, attribute.reference]).toEqual([
      float,
      int,
      string,
      reference,
    ])
  }
  expect(node.attributes.get('value')?.tensor?.data()).toEqual(data)
  expect(node.attributes.get('none')).toBeUndefined()
})

test('an attribute without a declared type has the type of its value; the first of two attributes with one name is listed', () => {
  const model = withNode({})
  const wire = model.graph.nodes[0]?.field.editableMessage('the node')
  const add = (name: string, ...values: readonly WireField[]) =>
    wire?.insert([field(Node.attribute, message(field(Attribute.name, name), ...values))])
  add('f', floatField(Attribute.f, 2))
  add('is', field(Attribute.ints, 3))
  add('f', field(Attribute.i, 7))
  add('none')
  const { attributes } = nodeOf(model)
  expect(Array.from(attributes, ([name, { type }]) => [name, type])).toEqual([
    ['f', 'float'],
    ['is', 'ints'],
    ['none', undefined],
  ])
  expect(attributes.get('f')?.float).toBe(2)
})

test('editing a listed tensor edits the model', () => {
  const model = readModel(withNode(ATTRIBUTES).toBytes())
  const other = new Uint8Array(Float32Array.of(5, 6).buffer)
  model.graph.nodes[0]?.attributes.get('value')?.tensor?.setData(other)
  expect(nodeOf(model).attributes.get('value')?.tensor?.data()).toEqual(other)
})

test('copies have the values of the originals, without graphs', () => {
  const { body: _, ...copied } = ATTRIBUTES
  const copies = copiedAttributes(nodeOf(withNode(ATTRIBUTES)).attributes.values())
  expect(Object.keys(copies)).toEqual(Object.keys(copied))
  const encoded = (attributes: Record<string, NewAttribute>) => {
    const pieces: Uint8Array[] = []
    encodeNode({ opType: 'Op', inputs: [], outputs: ['y'], attributes }).writeTo(pieces)
    return Buffer.concat(pieces)
  }
  expect(encoded(copies)).toEqual(encoded(copied))
})
