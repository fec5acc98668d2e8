/** Models whose nodes are not in an order of execution have no training graph, and stay as they are. */
import { explicitEntries } from '@fourierft/core'
import { expect, test } from 'vitest'
import { attachBranches } from '../../attach/attach.js'
import { findLinearLayers } from '../../layers/linear-layers.js'
import { createModel } from '../../model/create-model.js'
import type { NewNode } from '../../model/encode.js'
import { DataType } from '../../model/schema.js'
import { meanSquaredError } from '../losses/regression.js'
import { makeTrainingGraph } from '../training-graph.js'

const float = (name: string) => ({ name, dataType: DataType.float, dims: ['n', 2] })
const node = (opType: string, inputs: readonly string[], output: string): NewNode => ({
  opType,
  inputs,
  outputs: [output],
})

function makeGraph(nodes: readonly NewNode[]) {
  const weight = { name: 'w', dims: [2, 2], dataType: DataType.float, data: new Uint8Array(16) }
  const product = { ...node('MatMul', ['x', 'w'], 'h'), name: '/a/q/MatMul' }
  const model = createModel(
    {
      name: 'main',
      nodes: [product, ...nodes],
      inputs: [float('x')],
      outputs: [float('y')],
      initializers: [weight],
    },
    { opset: 17 },
  )
  const [layer] = findLinearLayers(model)
  const entries = explicitEntries({ shape: [2, 2], rows: [0, 1], columns: [1, 0] })
  const { coefficients } = attachBranches(model, [{ module: 'm', layer, entries }])
  const before = model.toBytes()
  const make = () =>
    makeTrainingGraph(model, { loss: meanSquaredError('y'), targets: [...coefficients.values()] })
  return { model, before, make }
}

const inner = {
  opType: 'If',
  inputs: ['c'],
  outputs: ['y'],
  attributes: Object.fromEntries(
    ['then_branch', 'else_branch'].map((name) => [
      name,
      { graph: { name, nodes: [node('Relu', ['later'], 'r')], outputs: [{ name: 'r' }] } },
    ]),
  ),
}

test.each([
  ['a cycle', [node('Add', ['h', 'b'], 'a'), node('Relu', ['a'], 'b'), node('Relu', ['b'], 'y')], 'b'],
  ['a node that reads its own output', [node('Add', ['h', 'y'], 'y')], 'y'],
  ['the reverse order', [node('Relu', ['a'], 'y'), node('Relu', ['h'], 'a')], 'a'],
  ['a value that nothing writes', [node('Add', ['h', 'nowhere'], 'y')], 'nowhere'],
  ['a later value inside a node', [node('Cast', ['h'], 'c'), inner, node('Relu', ['y'], 'later')], 'later'],
])('rejects %s', (_, nodes, name) => {
  const { model, before, make } = makeGraph(nodes)
  expect(make).toThrow(
    expect.objectContaining({
      code: 'INVALID_ONNX',
      message: expect.stringContaining(`it reads "${name}", which no node before it writes`),
    }),
  )
  expect(model.toBytes()).toEqual(before)
})

test('the same value as both inputs of many sums in a row is followed once, also before a selection', () => {
  const sums = Array.from({ length: 64 }, (_, i) =>
    node('Add', [i === 0 ? 'h' : `s${i}`, i === 0 ? 'h' : `s${i}`], `s${i + 1}`),
  )
  const { make } = makeGraph([
    ...sums,
    {
      ...node('Constant', [], 'first'),
      attributes: {
        value: { tensor: { dims: [1], dataType: DataType.int64, data: new Uint8Array(8) } },
      },
    },
    node('Gather', ['s64', 'first'], 'y'),
  ])
  expect(make().gradients.size).toBe(1)
})
