/** Nothing stays that the wanted outputs do not need. */
import { Tensor } from 'onnxruntime-node'
import { expect, test } from 'vitest'
import { createSession } from '../../__fixtures__/onnx-runtime.js'
import { createModel } from '../../model/create-model.js'
import { encodeGraph, encodeOpset, encodeValue } from '../../model/encode.js'
import { type OnnxModel, readModel } from '../../model/model.js'
import { DataType, Graph, Model } from '../../model/schema.js'
import { field, message } from '../../model/wire-message.js'
import { floats } from '../__fixtures__/check-gradient.js'
import { removeUnused } from './remove-unused.js'

const value = (name: string) => ({ name, dataType: DataType.float, dims: [2] })
const tensor = (name: string, ...data: number[]) => floats(name, { dims: [data.length], data }, true)

/** y = (x + a)·b, z = x + c, and an If whose graphs read d. */
function model(): OnnxModel {
  const branch = (name: string, initializer: string) => ({
    graph: {
      name,
      nodes: [{ opType: 'Add', inputs: ['z', initializer], outputs: [name] }],
      outputs: [{ name }],
    },
  })
  return createModel(
    {
      name: 'main',
      nodes: [
        { name: 'sum', opType: 'Add', inputs: ['x', 'a'], outputs: ['s'] },
        { name: 'product', opType: 'Mul', inputs: ['s', 'b'], outputs: ['y'] },
        { name: 'other', opType: 'Add', inputs: ['x', 'c'], outputs: ['z'] },
        {
          name: 'choice',
          opType: 'If',
          inputs: ['condition'],
          outputs: ['w'],
          attributes: { then_branch: branch('t', 'd'), else_branch: branch('e', 'c') },
        },
      ],
      inputs: [value('x'), { name: 'condition', dataType: DataType.bool, dims: [] }],
      outputs: [value('y'), value('z'), value('w')],
      initializers: [tensor('a', 1, 2), tensor('b', 3, 4), tensor('c', 5, 6), tensor('d', 7, 8)],
    },
    { opset: 17 },
  )
}

test('keeps what one output needs', async () => {
  const reduced = model()
  removeUnused(reduced, ['y'])
  const { graph } = reduced
  expect(graph.nodes.map(({ name }) => name)).toEqual(['sum', 'product'])
  expect([...graph.initializers.keys()]).toEqual(['a', 'b'])
  expect(graph.outputs.map(({ name }) => name)).toEqual(['y'])
  expect(graph.inputs.map(({ name }) => name)).toEqual(['x', 'condition'])
  const session = await createSession(reduced.toBytes())
  const results = await session.run({
    x: new Tensor('float32', [1, 1], [2]),
    condition: new Tensor('bool', [true], []),
  })
  expect(results.y.data).toEqual(Float32Array.of(6, 12))
  await session.release()
})

test('keeps what the graphs inside a node read', () => {
  const reduced = model()
  removeUnused(reduced, ['w'])
  expect(reduced.graph.nodes.map(({ name }) => name)).toEqual(['other', 'choice'])
  expect([...reduced.graph.initializers.keys()]).toEqual(['c', 'd'])
})

test('does not change a model whose outputs are all wanted', () => {
  const unchanged = model()
  removeUnused(unchanged, ['w', 'y', 'z'])
  expect(unchanged.toBytes()).toEqual(model().toBytes())
})

test('removes the input of a removed initializer, and descriptions of removed values', () => {
  const graph = encodeGraph({
    name: 'main',
    nodes: [
      { opType: 'Neg', inputs: ['x'], outputs: ['y'] },
      { opType: 'Add', inputs: ['x', 'a'], outputs: ['s'] },
      { opType: 'Neg', inputs: ['s'], outputs: ['z'] },
    ],
    inputs: [value('x'), value('a')],
    outputs: [value('y'), value('z')],
    initializers: [tensor('a', 1, 2)],
  })
  graph.insert([field(Graph.valueInfo, encodeValue(value('s')))])
  const parts: Uint8Array[] = []
  message(
    field(Model.irVersion, 3),
    field(Model.graph, graph),
    field(Model.opsetImport, encodeOpset('', 11)),
  ).writeTo(parts)
  const reduced = readModel(new Uint8Array(Buffer.concat(parts)))
  removeUnused(reduced, ['y'])
  expect(reduced.graph.inputs.map(({ name }) => name)).toEqual(['x'])
  expect(reduced.graph.initializers.size).toBe(0)
  expect(reduced.graph.valueInfos).toEqual([])
})

test('rejects names that are no outputs', () => {
  const unchanged = model()
  expect(() => removeUnused(unchanged, ['y', 's'])).toThrow('has no output "s"')
  expect(unchanged.toBytes()).toEqual(model().toBytes())
})
