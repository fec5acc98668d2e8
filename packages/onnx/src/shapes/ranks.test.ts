/** The number of axes of values whose graph compares shapes, or finds indices. */
import { expect, test } from 'vitest'
import { createModel } from '../model/create-model.js'
import type { NewNode, NewTensor } from '../model/encode.js'
import { DataType } from '../model/schema.js'
import { Analysis } from './batch-axis.js'

const integer = (name: string, value: number): NewTensor => ({
  name,
  dims: [],
  dataType: DataType.int64,
  data: new Uint8Array(BigInt64Array.of(BigInt(value)).buffer),
})

/** The dims of `y`, for an input x `['a', 'b']`; null for an unknown size. */
function dimsOfY(nodes: readonly NewNode[]): readonly (number | null)[] | undefined {
  const model = createModel(
    {
      name: 'main',
      nodes,
      inputs: [{ name: 'x', dataType: DataType.float, dims: ['a', 'b'] }],
      outputs: [{ name: 'y' }],
      initializers: [integer('one', 1), integer('two', 2)],
    },
    { opset: 17 },
  )
  return new Analysis(model).known(model.graph, 'y').dims?.map(({ size }) => size.value ?? null)
}

const RANK: readonly NewNode[] = [
  { opType: 'Shape', inputs: ['x'], outputs: ['shape'] },
  { opType: 'Size', inputs: ['shape'], outputs: ['rank'] },
]

test.each([
  ['Greater', 'one', true],
  ['Greater', 'two', false],
  ['GreaterOrEqual', 'two', true],
  ['Less', 'two', false],
  ['LessOrEqual', 'two', true],
])('decides an If on a comparison of the rank: 2 %s %s', (opType, other, isTrue) => {
  const copies = { opType: 'Identity', inputs: ['x'], outputs: ['same'] }
  const sums: NewNode = {
    opType: 'ReduceSum',
    inputs: ['x'],
    outputs: ['sum'],
    attributes: { keepdims: { int: 0 } },
  }
  const branch = (node: NewNode) => ({
    graph: { name: 'branch', nodes: [node], outputs: [{ name: node.outputs[0] }] },
  })
  const nodes: NewNode[] = [
    ...RANK,
    { opType, inputs: ['rank', other], outputs: ['condition'] },
    {
      opType: 'If',
      inputs: ['condition'],
      outputs: ['y'],
      attributes: { then_branch: branch(copies), else_branch: branch(sums) },
    },
  ]
  expect(dimsOfY(nodes)).toEqual(isTrue ? [null, null] : [])
})

test('NonZero gives one row of indices for each axis', () => {
  expect(dimsOfY([{ opType: 'NonZero', inputs: ['x'], outputs: ['y'] }])).toEqual([2, null])
})
