/** The axis of the batch in the inputs of layers: in real exports, and after the operations that architectures have between layers. */
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { findLinearLayers } from '../layers/linear-layers.js'
import { findPackedLayers } from '../layers/packed-layers.js'
import { productsOf } from '../layers/products.js'
import { createModel } from '../model/create-model.js'
import type { NewAttribute, NewNode, NewTensor } from '../model/encode.js'
import { readModel } from '../model/model.js'
import { DataType } from '../model/schema.js'
import { batchAxes, findRows, type RowPosition } from './batch-axis.js'

const folderOf = (path: string) => fileURLToPath(new URL(path, import.meta.url))

/** Exports for a batch of one that contain constants with one row, so their layers do not depend on the batch. */
const ONE_ROW = /^(gpt2-(torchscript|dynamo|q4|q8)|llama-q8)\.onnx$/

function exportsIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.onnx') && !ONE_ROW.test(name))
    .map((name) => `${folder}/${name}`)
}

describe('exports', () => {
  const files = [
    '../__fixtures__',
    '../../../transformers/test/__fixtures__',
    '../../../onnxruntime/test/__fixtures__',
  ].flatMap((folder) => exportsIn(folderOf(folder)))

  test.each(files.map((file) => [file.split('/').slice(-3).join('/'), file]))(
    '%s: the batch is the first axis of all layers',
    (_, file) => {
      const model = readModel(new Uint8Array(readFileSync(file)), { file })
      const positionOf = findRows(model)
      const products = [...findLinearLayers(model), ...findPackedLayers(model)].flatMap(productsOf)
      expect(products.length).toBeGreaterThan(0)
      for (const product of products)
        expect([product.node.name, positionOf(product)]).toEqual([product.node.name, 'first'])
    },
  )
})

const integers = (name: string, values: readonly number[], isScalar = false): NewTensor => ({
  name,
  dims: isScalar ? [] : [values.length],
  dataType: DataType.int64,
  data: new Uint8Array(BigInt64Array.from(values, BigInt).buffer),
})
const floats = (name: string, ...dims: number[]): NewTensor => ({
  name,
  dims,
  dataType: DataType.float,
  data: new Uint8Array(4 * dims.reduce((product, size) => product * size, 1)),
})

/** Constants of every graph. */
const CONSTANTS = [
  floats('w', 12, 12),
  floats('positions', 9, 12),
  floats('token', 1, 1, 12),
  integers('0', [0], true),
  integers('1', [1], true),
  integers('[0]', [0]),
  integers('[1]', [1]),
  integers('[2]', [2]),
  integers('[3]', [3]),
  integers('[12]', [12]),
  integers('[-1]', [-1]),
  integers('[-1, 12]', [-1, 12]),
  integers('[0, 0, 3, 4]', [0, 0, 3, 4]),
  integers('[0, 0, 12]', [0, 0, 12]),
  integers('[0, 3, 4, 12]', [0, 3, 4, 12]),
  integers('[0, -1, 12]', [0, -1, 12]),
  integers('[1, -1, 12]', [1, -1, 12]),
  integers('[2, 1, 1]', [2, 1, 1]),
]

const op = (
  opType: string,
  inputs: readonly string[],
  output: string,
  attributes: Readonly<Record<string, NewAttribute>> = {},
): NewNode => ({ opType, inputs, outputs: [output], attributes })
const transpose = (input: string, output: string, ...perm: number[]) =>
  op('Transpose', [input], output, { perm: { ints: perm } })
/** Nodes that compute the size of an axis, as a number and as a vector. */
const sizeOf = (input: string, axis: 0 | 1, output: string): NewNode[] => [
  op('Shape', [input], `${output}.shape`),
  op('Gather', [`${output}.shape`, String(axis)], `${output}.number`, { axis: { int: 0 } }),
  op('Unsqueeze', [`${output}.number`, '[0]'], output),
]
const shapeOf = (output: string, ...parts: string[]) => op('Concat', parts, output, { axis: { int: 0 } })

type Dims = readonly (number | string)[]

/** Returns the position of the rows in `z`, the input of a product. By default the graph has the input x [batch, tokens, 12]. */
function positionOf(
  nodes: readonly NewNode[],
  inputs: Readonly<Record<string, Dims>> = { x: ['batch', 'tokens', 12] },
): RowPosition {
  const product = { name: '/proj/MatMul', ...op('MatMul', ['z', 'w'], 'y') }
  const model = createModel(
    {
      name: 'main_graph',
      inputs: Object.entries(inputs).map(([name, dims]) => ({ name, dims, dataType: DataType.float })),
      outputs: [{ name: 'y' }],
      initializers: CONSTANTS,
      nodes: [...nodes, product],
    },
    { opset: 17 },
  )
  const again = readModel(model.toBytes())
  const layer = findLinearLayers(again).find(({ node }) => node.name === '/proj/MatMul')
  if (!layer) throw new Error('there is no layer')
  return findRows(again)(layer)
}

const SEQUENCE_FIRST = { axesBefore: 1, groups: undefined }
const IN_ONE_AXIS = { axesBefore: 0, groups: { factor: 1, inputAxes: [{ input: 'x', axis: 1 }] } }

const POSITIONS: Readonly<Record<string, readonly [RowPosition, readonly NewNode[]]>> = {
  'the input itself': ['first', [op('Identity', ['x'], 'z')]],
  'a residual connection and a normalisation': [
    'first',
    [op('Add', ['x', 'token'], 'a'), op('Relu', ['a'], 'b'), op('Add', ['b', 'x'], 'z')],
  ],
  'flattened for Gemm': ['first', [op('Reshape', ['x', '[-1, 12]'], 'z')]],
  'split into heads, and back': [
    'first',
    [
      op('Reshape', ['x', '[0, 0, 3, 4]'], 'a'),
      transpose('a', 'q', 0, 2, 1, 3),
      transpose('a', 'k', 0, 2, 3, 1),
      op('MatMul', ['q', 'k'], 's'),
      op('Softmax', ['s'], 'p'),
      op('MatMul', ['p', 'q'], 'o'),
      transpose('o', 'b', 0, 2, 1, 3),
      op('Reshape', ['b', '[0, 0, 12]'], 'z'),
    ],
  ],
  'heads and rows in one axis, and back': [
    'first',
    [
      op('Reshape', ['x', '[0, 0, 3, 4]'], 'a'),
      transpose('a', 'q', 0, 2, 1, 3),
      ...sizeOf('x', 0, 'n'),
      ...sizeOf('x', 1, 't'),
      op('Mul', ['n', '[3]'], 'nh'),
      shapeOf('flat', 'nh', 't', '[-1]'),
      op('Reshape', ['q', 'flat'], 'o'),
      shapeOf('split', 'n', '[3]', 't', '[-1]'),
      op('Reshape', ['o', 'split'], 'p'),
      transpose('p', 'b', 0, 2, 1, 3),
      op('Reshape', ['b', '[0, 0, 12]'], 'z'),
    ],
  ],
  'the first token': ['first', [op('Gather', ['x', '0'], 'z', { axis: { int: 1 } })]],
  'a class token before the others': [
    'first',
    [
      ...sizeOf('x', 0, 'n'),
      shapeOf('s', 'n', '[1]', '[12]'),
      op('Expand', ['token', 's'], 'c'),
      op('Concat', ['c', 'x'], 'z', { axis: { int: 1 } }),
    ],
  ],
  'learned queries, the same for each row': [
    'first',
    [
      ...sizeOf('x', 0, 'n'),
      shapeOf('s', 'n', '[1]', '[1]'),
      op('Unsqueeze', ['positions', '[0]'], 'p'),
      op('Tile', ['p', 's'], 'z'),
    ],
  ],
  'tokens first': [SEQUENCE_FIRST, [transpose('x', 'z', 1, 0, 2)]],
  'tokens first, and back': ['first', [transpose('x', 'a', 1, 0, 2), transpose('a', 'z', 1, 0, 2)]],
  'tokens and rows in one axis': [
    IN_ONE_AXIS,
    [transpose('x', 'a', 1, 0, 2), op('Reshape', ['a', '[-1, 12]'], 'z')],
  ],
  'tokens and rows in one axis, and back': [
    'first',
    [
      transpose('x', 'a', 1, 0, 2),
      op('Reshape', ['a', '[-1, 12]'], 'f'),
      ...sizeOf('x', 0, 'n'),
      ...sizeOf('x', 1, 't'),
      shapeOf('s', 't', 'n', '[-1]'),
      op('Reshape', ['f', 's'], 'b'),
      transpose('b', 'z', 1, 0, 2),
    ],
  ],
  'all rows twice, one after the other': [
    { axesBefore: 0, groups: { factor: 2, inputAxes: [] } },
    [op('Concat', ['x', 'x'], 'z', { axis: { int: 0 } })],
  ],
  'all rows twice, repeated': [
    { axesBefore: 0, groups: { factor: 2, inputAxes: [] } },
    [op('Tile', ['x', '[2, 1, 1]'], 'z')],
  ],
  'windows of tokens': [
    'first',
    [
      op('Reshape', ['x', '[0, 3, 4, 12]'], 'a'),
      transpose('a', 'b', 0, 2, 1, 3),
      op('Reshape', ['b', '[-1, 12]'], 'z'),
    ],
  ],
  'subgraphs of an If': [
    'first',
    [
      op('ReduceMax', ['x'], 'm', { keepdims: { int: 0 } }),
      op('Greater', ['m', 'm'], 'c'),
      op('If', ['c'], 'z', {
        then_branch: { graph: { name: 'a', nodes: [op('Relu', ['x'], 'p')], outputs: [{ name: 'p' }] } },
        else_branch: { graph: { name: 'b', nodes: [op('Tanh', ['x'], 'q')], outputs: [{ name: 'q' }] } },
      }),
    ],
  ],
  'relative positions': ['none', [op('Unsqueeze', ['positions', '[0]'], 'z')]],
  'the mean of all rows': ['none', [op('ReduceMean', ['x'], 'z', { axes: { ints: [0] } })]],
  'one of the rows': ['none', [op('Gather', ['x', '0'], 'z', { axis: { int: 0 } })]],
  'subgraphs of an If that differ': [
    'unknown',
    [
      op('ReduceMax', ['x'], 'm', { keepdims: { int: 0 } }),
      op('Greater', ['m', 'm'], 'c'),
      op('If', ['c'], 'z', {
        then_branch: { graph: { name: 'a', nodes: [op('Relu', ['x'], 'p')], outputs: [{ name: 'p' }] } },
        else_branch: {
          graph: { name: 'b', nodes: [transpose('x', 'q', 1, 0, 2)], outputs: [{ name: 'q' }] },
        },
      }),
    ],
  ],
  'some of the rows': ['unknown', [op('Slice', ['x', '[0]', '[1]', '[0]'], 'z')]],
  'an unknown operator': ['unknown', [{ ...op('Mystery', ['x'], 'z'), domain: 'elsewhere' }]],
  'the positions of nonzero values': [
    'unknown',
    [op('NonZero', ['x'], 'i'), op('GatherND', ['positions', 'i'], 'z')],
  ],
  'each row combined with every row': [
    'unknown',
    [op('Unsqueeze', ['x', '[0]'], 'a'), op('Unsqueeze', ['x', '[1]'], 'b'), op('Add', ['a', 'b'], 'z')],
  ],
  'the rows as features': ['unknown', [transpose('x', 'a', 1, 2, 0), op('Identity', ['a'], 'z')]],
}

test.each(Object.entries(POSITIONS))('finds the position of the rows: %s', (_, [expected, nodes]) => {
  expect(positionOf(nodes)).toEqual(expected)
})

test('a reshape that mixes rows with other axes gives an unknown position', () => {
  const nodes = [
    transpose('x', 'a', 1, 0, 2),
    ...sizeOf('x', 0, 'n'),
    ...sizeOf('x', 1, 't'),
    shapeOf('s', 'n', 't', '[-1]'),
    op('Reshape', ['a', 's'], 'z'),
  ]
  expect(positionOf(nodes)).toBe('unknown')
})

test('a split with computed sizes is not assumed to be even', () => {
  const inputs = { x: ['batch', 6, 12], sizes: [2] }
  const nodes = (sizes: readonly string[]) => [
    { opType: 'Split', inputs: ['x', ...sizes], outputs: ['a', 'rest'], attributes: { axis: { int: 1 } } },
    shapeOf('s', '[-1]', '[3]', '[12]'),
    op('Reshape', ['a', 's'], 'z'),
  ]
  expect(positionOf(nodes([]), inputs)).toBe('first')
  expect(positionOf(nodes(['sizes']), inputs)).toBe('unknown')
})

describe('the batch axis of an input', () => {
  const axesOf = (inputs: Readonly<Record<string, Dims>>) =>
    Object.fromEntries(
      batchAxes(Object.entries(inputs).map(([name, dims]) => ({ name, dims, dataType: DataType.float }))),
    )

  test('is the first one if no name contains it', () => {
    expect(axesOf({ x: ['n', 't', 4], mask: ['n', 't'] })).toEqual({ x: 0, mask: 0 })
    expect(axesOf({ x: ['unk__1', 'unk__2'], mask: ['unk__3', 'unk__4'] })).toEqual({ x: 0, mask: 0 })
    expect(axesOf({ x: [2, 7, 4] })).toEqual({ x: 0 })
  })

  test('does not exist in vectors of tokens or of settings', () => {
    expect(axesOf({ x: ['n', 't'], positions: ['t'], use_cache: [1], scale: [] })).toEqual({ x: 0 })
  })

  test('is the axis whose name contains batch', () => {
    expect(axesOf({ x: ['sequence', 'batch_size', 4], mask: ['batch_size', 'sequence'] })).toEqual({
      x: 1,
      mask: 0,
    })
    expect(axesOf({ ids: ['text_batch', 't'], pixels: ['image_batch', 3, 8, 8] })).toEqual({
      ids: 0,
      pixels: 0,
    })
    expect(axesOf({ ids: ['batch', 't'], positions: ['t'], table: [4, 't'] })).toEqual({ ids: 0 })
  })

  test('is not the first one if the input has the tokens first', () => {
    expect(positionOf([op('Relu', ['x'], 'z')], { x: ['tokens', 'batch', 12] })).toEqual(SEQUENCE_FIRST)
  })

  test('is known for an input without a shape, up to an operator that needs the shape', () => {
    /** A model in base64: y = Relu(x), opset 17, without shapes. The nodes read its output as `r`. */
    const relu = 'CAg6KgoMCgF4EgF5IgRSZWx1EgRtYWluWgkKAXgSBAoCCAFiCQoBeRIECgIIAUIECgAQEQ=='
    const positionAfter = (...nodes: NewNode[]) => {
      const model = readModel(Uint8Array.from(atob(relu), (character) => character.charCodeAt(0)))
      for (const { name = '', ...tensor } of CONSTANTS) model.graph.addInitializer({ name, ...tensor })
      const [first] = model.graph.nodes
      first?.setOutput(0, 'r')
      if (first) model.graph.insertAfter(first, [...nodes, op('MatMul', ['z', 'w'], 'y')])
      const layer = findLinearLayers(model).at(-1)
      return layer && findRows(model)(layer)
    }
    expect(positionAfter(op('MatMul', ['r', 'w'], 'a'), op('Mul', ['a', '1'], 'z'))).toBe('first')
    expect(positionAfter(transpose('r', 'z', 1, 0, 2))).toBe('unknown')
    expect(positionAfter(op('Add', ['r', 'positions'], 'z'))).toBe('unknown')
  })

  test('is unknown in a tensor with two batches', () => {
    const nodes = [op('Unsqueeze', ['x', '[1]'], 'a'), op('Add', ['a', 'v'], 'z')]
    expect(positionOf(nodes, { x: ['text_batch', 12], v: ['image_batch', 12] })).toBe('unknown')
  })

  test('does not exist in an input without a batch dim beside inputs with one', () => {
    const inputs = { x: ['batch', 'tokens', 12], p: ['tokens', 12] }
    expect(positionOf([op('Add', ['x', 'p'], 'z')], inputs)).toBe('first')
    expect(positionOf([op('Relu', ['p'], 'z')], inputs)).toBe('none')
  })
})
