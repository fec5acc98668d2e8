/** The selection of one token moves before the layers that compute it; values and gradients stay the same. */
import { expect, test } from 'vitest'
import { createModel } from '../../model/create-model.js'
import type { NewAttribute, NewNode } from '../../model/encode.js'
import { DataType } from '../../model/schema.js'
import { floats, gradientError, integers, numbers } from '../__fixtures__/check-gradient.js'
import { selectEarly } from './select-early.js'

const node = (
  opType: string,
  inputs: readonly string[],
  output: string,
  attributes: Readonly<Record<string, NewAttribute>> = {},
): NewNode => ({ name: `the ${opType} of ${output}`, opType, inputs, outputs: [output], attributes })

const select = (index: string, axis = 1) => node('Gather', ['normal', index], 'y', { axis: { int: axis } })

const INITIALIZERS = [
  floats('weight', numbers([4, 6], 1)),
  floats('bias', numbers([6], 2)),
  floats('back', numbers([6, 4], 3)),
  floats('scale', numbers([4], 4)),
  integers('first', [0], []),
  integers('last', [-1]),
  integers('two', [0, 1]),
]

const LAYERS = [
  node('MatMul', ['x', 'weight'], 'product'),
  node('Add', ['bias', 'product'], 'biased'),
  node('Tanh', ['biased'], 'active'),
  node('MatMul', ['active', 'back'], 'projected'),
  node('Add', ['projected', 'x'], 'sum'),
  node('LayerNormalization', ['sum', 'scale'], 'normal'),
]
const DIMS = { x: ['rows', 'tokens', 4] }

function modelOf(nodes: readonly NewNode[], outputs: readonly string[]) {
  const model = createModel(
    {
      name: 'main',
      nodes,
      inputs: [{ name: 'x', dataType: DataType.double, dims: DIMS.x }],
      outputs: outputs.map((name) => ({ name })),
      initializers: INITIALIZERS,
    },
    { opset: 18 },
  )
  selectEarly(model)
  return model
}

test.each([
  ['the first token, without its axis', 'first'],
  ['the last token, with its axis', 'last'],
])('selects %s before all layers', async (_, index) => {
  const nodes = [...LAYERS, select(index)]
  const { graph } = modelOf(nodes, ['y'])
  const [selection] = graph.nodes
  expect(selection.opType).toBe('Gather')
  expect(graph.consumersOf('x')).toEqual([selection])
  expect(
    graph
      .consumersOf(selection.outputs[0])
      .map(({ opType }) => opType)
      .sort(),
  ).toEqual(['Add', 'MatMul'])
  const inputs = { x: numbers([2, 3, 4], 5) }
  expect(await gradientError({ nodes, inputs, declared: DIMS, initializers: INITIALIZERS })).toBeLessThan(
    1e-8,
  )
})

test('stops at operators that mix tokens', async () => {
  const nodes = [
    node('Softmax', ['x'], 'mixed', { axis: { int: 1 } }),
    ...LAYERS.map((one) => ({ ...one, inputs: one.inputs.map((name) => (name === 'x' ? 'mixed' : name)) })),
    select('first'),
  ]
  const { graph } = modelOf(nodes, ['y'])
  expect(graph.nodes.slice(0, 3).map(({ opType }) => opType)).toEqual(['Softmax', 'Gather', 'MatMul'])
  const inputs = { x: numbers([2, 3, 4], 5) }
  expect(await gradientError({ nodes, inputs, declared: DIMS, initializers: INITIALIZERS })).toBeLessThan(
    1e-8,
  )
})

test('layers with another reader compute all tokens', () => {
  const nodes = [...LAYERS, select('first'), node('Neg', ['projected'], 'z')]
  const { graph } = modelOf(nodes, ['y', 'z'])
  expect(graph.nodes.slice(0, 4).map(({ opType }) => opType)).toEqual(['MatMul', 'Add', 'Tanh', 'MatMul'])
})

test.each<[string, readonly NewNode[], readonly string[]]>([
  ['all tokens are an output', [...LAYERS, select('first')], ['y', 'normal']],
  ['several tokens are selected', [...LAYERS, select('two')], ['y']],
  ['features are selected', [...LAYERS, select('first', 2)], ['y']],
  ['there is no product before the selection', [...LAYERS.slice(5), select('first')], ['y']],
])('nothing moves if %s', (_, nodes, outputs) => {
  const first = nodes.length === 2 ? [node('Identity', ['x'], 'sum')] : []
  const all = [...first, ...nodes]
  expect(modelOf(all, outputs).graph.nodes.map(({ opType }) => opType)).toEqual(
    all.map(({ opType }) => opType),
  )
})
