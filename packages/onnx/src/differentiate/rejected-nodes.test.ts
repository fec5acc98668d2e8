/** Nodes whose gradient would be lost or wrong are rejected by name. */
import { expect, test } from 'vitest'
import { createModel } from '../model/create-model.js'
import type { NewTensor } from '../model/encode.js'
import { DataType } from '../model/schema.js'
import { floats, integers, numbers, one } from './__fixtures__/check-gradient.js'
import { differentiate } from './differentiate.js'

const MS = 'com.microsoft'
const bool = (name: string, value: number): NewTensor & { readonly name: string } => ({
  name,
  dims: [],
  dataType: DataType.bool,
  data: Uint8Array.of(value),
})

/** Differentiates a node that reads the constants and `x`, which all of `changing` are computed from. */
function gradientOf(node: ReturnType<typeof one>, changing: readonly string[], mode = bool('mode', 1)) {
  const float = (name: string, dims: readonly number[]) => floats(name, numbers(dims, 1), true)
  const model = createModel(
    {
      name: 'main',
      nodes: [...changing.map((name) => ({ opType: 'ReduceMax', inputs: ['x'], outputs: [name] })), node],
      inputs: [
        { name: 'x', dataType: DataType.float, dims: [2, 3, 4] },
        { name: 'switch', dataType: DataType.bool, dims: [] },
        { name: 'seed', dataType: DataType.float, dims: [2, 3, 4] },
      ],
      outputs: [{ name: 'y' }],
      initializers: [
        float('skip', [2, 3, 4]),
        float('scale', [4]),
        integers('pads', [0, 0, 0, 0, 0, 1]),
        mode,
      ],
    },
    { opset: 18 },
  )
  model.addOpsetImport(MS, 1)
  return differentiate(model, { seeds: new Map([['y', 'seed']]), targets: ['x'] })
}

test.each([
  ['the limit of Clip', one('Clip', ['x', '', 'changing']), 2],
  ['the value of Pad', one('Pad', ['x', 'pads', 'changing']), 2],
  ['gamma of SkipLayerNormalization', one('SkipLayerNormalization', ['x', 'skip', 'changing'], {}, MS), 2],
  [
    'beta of SkipLayerNormalization',
    one('SkipLayerNormalization', ['x', 'skip', 'scale', 'changing'], {}, MS),
    3,
  ],
  [
    'the bias of SkipLayerNormalization',
    one('SkipLayerNormalization', ['x', 'skip', 'scale', 'scale', 'changing'], {}, MS),
    4,
  ],
  [
    'gamma of SkipSimplifiedLayerNormalization',
    one('SkipSimplifiedLayerNormalization', ['x', 'skip', 'changing'], {}, MS),
    2,
  ],
] as const)('%s, if it changes with the adapter', (_, node, input) => {
  expect(() => gradientOf(node, ['changing'])).toThrow(
    expect.objectContaining({
      code: 'UNSUPPORTED',
      message: expect.stringContaining(
        `node "${node.name}" (${node.opType}) computes with input ${input} ("changing")`,
      ),
    }),
  )
})

test.each([
  ['constant', 'mode'],
  ['an input', 'switch'],
])('Dropout in training mode, which is %s', (_, mode) => {
  expect(() => gradientOf(one('Dropout', ['x', '', mode]), [])).toThrow(
    expect.objectContaining({
      code: 'UNSUPPORTED',
      message: expect.stringContaining(
        'node "the Dropout" (Dropout) has a training_mode that is not constant false',
      ),
    }),
  )
})

test('Dropout without training mode passes the gradient', () => {
  expect(gradientOf(one('Dropout', ['x', '', 'mode']), [], bool('mode', 0)).gradients.get('x')).toBe('seed')
})
