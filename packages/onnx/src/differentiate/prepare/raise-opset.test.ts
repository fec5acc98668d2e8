/** Models of old opsets give the same bits in opset 16. */
import { FourierFTError } from '@fourierft/core'
import { type InferenceSession, Tensor } from 'onnxruntime-node'
import { describe, expect, test } from 'vitest'
import { modelBytes } from '../../__fixtures__/model-files.js'
import { createSession } from '../../__fixtures__/onnx-runtime.js'
import { createModel } from '../../model/create-model.js'
import type { NewAttribute, NewNode, NewTensor } from '../../model/encode.js'
import { type OnnxModel, readModel } from '../../model/model.js'
import { DataType } from '../../model/schema.js'
import { floats, integers, numbers } from '../__fixtures__/check-gradient.js'
import { Names } from './names.js'
import { raiseOpset } from './raise-opset.js'

type Feeds = Record<string, Tensor>

async function bitsOf(model: Uint8Array, feeds: Feeds): Promise<InferenceSession.OnnxValueMapType> {
  const session = await createSession(model)
  const results = await session.run(feeds)
  await session.release()
  return results
}

function raised(model: OnnxModel): OnnxModel {
  raiseOpset(model, new Names(model))
  return model
}

const ids = new Tensor(
  'int64',
  BigInt64Array.from({ length: 16 }, (_, i) => BigInt((3 * i + 1) % 20)),
  [2, 8],
)
const mask = new Tensor(
  'int64',
  BigInt64Array.from({ length: 16 }, (_, i) => (i < 13 ? 1n : 0n)),
  [2, 8],
)

describe('exports of opset 14', () => {
  test.each([
    ['bert-plain', { x: ids, mask }],
    ['bert-half', { x: ids, mask }],
    ['bert-fused', { x: ids, mask }],
    ['bert-half-fused', { x: ids, mask }],
    ['gpt2-plain', { x: ids }],
    ['gpt2-fused', { x: ids }],
  ] as [string, Feeds][])('%s gives the same bits', async (name, feeds) => {
    const model = raised(readModel(modelBytes(name)))
    expect(model.opsetImports.get('')).toBe(16)
    expect(model.irVersion).toBe(8)
    expect(await bitsOf(model.toBytes(), feeds)).toEqual(await bitsOf(modelBytes(name), feeds))
  })
})

interface OldModel {
  readonly nodes: readonly NewNode[]
  /** The dims of x. */
  readonly dims?: readonly number[]
  readonly declared?: readonly (number | string)[]
  readonly initializers?: readonly (NewTensor & { readonly name: string })[]
  readonly outputs?: readonly string[]
  readonly opset?: number
}

/** One node that reads x and writes y. */
function one(
  opType: string,
  attributes: Readonly<Record<string, NewAttribute>> = {},
  others: readonly string[] = [],
): NewNode {
  return { name: 'the node', opType, inputs: ['x', ...others], outputs: ['y'], attributes }
}

function oldModel({
  nodes,
  dims = [2, 3, 4],
  declared = dims,
  initializers = [],
  outputs = ['y'],
  opset = 11,
}: OldModel) {
  return createModel(
    {
      name: 'main',
      nodes,
      inputs: [{ name: 'x', dataType: DataType.float, dims: declared }],
      outputs: outputs.map((name) => ({ name })),
      initializers,
    },
    { opset },
  )
}

const ints = (...values: number[]) => ({ ints: values })
const image = [1, 2, 4, 4]
const channel = [1, 2].map((size) => floats(`c${size}`, numbers([2], size, 0.5, 2), true))
const empty = (name: string): NewTensor & { readonly name: string } => ({
  name,
  dims: [0],
  dataType: DataType.float,
  data: new Uint8Array(),
})

const softmaxes = ['Softmax', 'LogSoftmax', 'Hardmax'].flatMap((opType) =>
  [undefined, 0, 1, 2, -1, -2].flatMap((axis): [string, OldModel][] => {
    const nodes = [one(opType, axis === undefined ? {} : { axis: { int: axis } })]
    return [
      [`${opType} from axis ${axis ?? 'by default'}`, { nodes }],
      [`${opType} from axis ${axis ?? 'by default'} with open dims`, { nodes, declared: ['a', 'b', 'c'] }],
    ]
  }),
)

const models: readonly [string, OldModel][] = [
  ['Squeeze', { nodes: [one('Squeeze', { axes: ints(0, -2) })], dims: [1, 3, 1, 4] }],
  ['Squeeze of all axes of size 1', { nodes: [one('Squeeze')], dims: [1, 3, 1, 4] }],
  ['Unsqueeze', { nodes: [one('Unsqueeze', { axes: ints(0, -1) })] }],
  ['ReduceSum', { nodes: [one('ReduceSum', { axes: ints(-1, 0), keepdims: { int: 0 } })] }],
  ['ReduceSum over all axes', { nodes: [one('ReduceSum')] }],
  [
    'Split',
    {
      nodes: [{ ...one('Split', { axis: { int: 2 }, split: ints(1, 3) }), outputs: ['y', 'z'] }],
      outputs: ['y', 'z'],
    },
  ],
  [
    'Split into equal parts',
    { nodes: [{ ...one('Split', { axis: { int: 2 } }), outputs: ['y', 'z'] }], outputs: ['y', 'z'] },
  ],
  ...softmaxes,
  ['Softmax of a matrix by default', { nodes: [one('Softmax')], dims: [3, 4] }],
  ['Softmax of an empty batch', { nodes: [one('Softmax')], dims: [0, 3, 4], declared: ['a', 'b', 'c'] }],
  ['Dropout', { nodes: [one('Dropout', { ratio: { float: 0.3 } })] }],
  ['Dropout with an unread mask', { nodes: [{ ...one('Dropout'), outputs: ['y', 'mask'] }] }],
  [
    'BatchNormalization',
    {
      nodes: [one('BatchNormalization', { epsilon: { float: 1e-3 } }, ['c1', 'c2', 'c2', 'c1'])],
      dims: image,
      initializers: channel,
    },
  ],
  [
    'Resize by scales',
    {
      nodes: [one('Resize', { mode: { string: 'linear' } }, ['none', 'scales'])],
      dims: image,
      initializers: [empty('none'), floats('scales', { dims: [4], data: [1, 1, 2, 1.5] }, true)],
    },
  ],
  [
    'Resize to sizes',
    {
      nodes: [one('Resize', { mode: { string: 'nearest' } }, ['none', 'none', 'sizes'])],
      dims: image,
      initializers: [empty('none'), integers('sizes', [1, 2, 7, 3])],
    },
  ],
  [
    'Resize of a region',
    {
      nodes: [
        one(
          'Resize',
          { mode: { string: 'linear' }, coordinate_transformation_mode: { string: 'tf_crop_and_resize' } },
          ['roi', 'none', 'sizes'],
        ),
      ],
      dims: image,
      initializers: [
        empty('none'),
        floats('roi', { dims: [8], data: [0, 0, 0.2, 0.1, 1, 1, 0.7, 0.9] }, true),
        integers('sizes', [1, 2, 3, 3]),
      ],
    },
  ],
  [
    'RoiAlign',
    {
      nodes: [one('RoiAlign', { output_height: { int: 2 }, output_width: { int: 2 } }, ['rois', 'batch'])],
      dims: image,
      initializers: [
        floats('rois', { dims: [2, 4], data: [0, 0, 3, 3, 0.5, 1, 2.5, 3.5] }, true),
        integers('batch', [0, 0]),
      ],
    },
  ],
  [
    'operators inside a graph of a node',
    {
      nodes: [
        { opType: 'Size', inputs: ['x'], outputs: ['size'] },
        { opType: 'Less', inputs: ['size', 'limit'], outputs: ['isSmall'] },
        {
          opType: 'If',
          inputs: ['isSmall'],
          outputs: ['y'],
          attributes: {
            then_branch: {
              graph: {
                name: 'small',
                nodes: [
                  { opType: 'Softmax', inputs: ['x'], outputs: ['softmax'] },
                  {
                    opType: 'Unsqueeze',
                    inputs: ['softmax'],
                    outputs: ['wide'],
                    attributes: { axes: ints(1) },
                  },
                ],
                outputs: [{ name: 'wide' }],
              },
            },
            else_branch: {
              graph: {
                name: 'large',
                nodes: [
                  { opType: 'Unsqueeze', inputs: ['x'], outputs: ['large'], attributes: { axes: ints(1) } },
                ],
                outputs: [{ name: 'large' }],
              },
            },
          },
        },
      ],
      initializers: [integers('limit', [1000], [])],
    },
  ],
  // These have other versions, but mean the same.
  [
    'Clip',
    { nodes: [one('Clip', {}, ['low'])], initializers: [floats('low', { dims: [], data: [0.1] }, true)] },
  ],
  ['Pad', { nodes: [one('Pad', {}, ['pads'])], initializers: [integers('pads', [0, 1, 2, 0, 1, 0])] }],
  ['Pow', { nodes: [one('Pow', {}, ['two'])], initializers: [floats('two', { dims: [], data: [2] }, true)] }],
  ['Flatten', { nodes: [one('Flatten')] }],
  ['ArgMax', { nodes: [one('ArgMax', { axis: { int: 1 } })] }],
  [
    'MaxPool',
    {
      nodes: [one('MaxPool', { kernel_shape: ints(2, 2), ceil_mode: { int: 1 }, strides: ints(2, 3) })],
      dims: image,
    },
  ],
  [
    'DynamicQuantizeLinear and DequantizeLinear',
    {
      nodes: [
        { opType: 'DynamicQuantizeLinear', inputs: ['x'], outputs: ['q', 'scale', 'zero'] },
        { opType: 'DequantizeLinear', inputs: ['q', 'scale', 'zero'], outputs: ['y'] },
      ],
    },
  ],
]

describe('models of opset 11', () => {
  test.each(models)('%s gives the same bits', async (_, old) => {
    const { dims, data } = numbers(old.dims ?? [2, 3, 4], 5)
    const feeds = { x: new Tensor('float32', Float32Array.from(data), dims) }
    const model = raised(oldModel(old))
    expect(model.opsetImports.get('')).toBe(16)
    expect(await bitsOf(model.toBytes(), feeds)).toEqual(await bitsOf(oldModel(old).toBytes(), feeds))
  })

  test('models of later opsets do not change', () => {
    const old = oldModel({ nodes: [one('Softmax')], opset: 16 })
    const before = old.toBytes()
    expect(raised(old).toBytes()).toEqual(before)
  })
})

describe('rejects what opset 16 does not have', () => {
  const rejected: readonly [string, OldModel, string][] = [
    [
      'the mask of Dropout',
      { nodes: [{ ...one('Dropout'), outputs: ['y', 'mask'] }], outputs: ['y', 'mask'] },
      'node "the node" (Dropout) gives the mask "mask"',
    ],
    [
      'BatchNormalization in training',
      {
        nodes: [
          {
            ...one('BatchNormalization', {}, ['c1', 'c2', 'c2', 'c1']),
            outputs: ['y', 'mean', 'variance', 'savedMean', 'savedVariance'],
          },
        ],
        initializers: channel,
      },
      'node "the node" (BatchNormalization) computes the statistics of the batch',
    ],
    [
      'tf_half_pixel_for_nn',
      {
        nodes: [
          one('Resize', { coordinate_transformation_mode: { string: 'tf_half_pixel_for_nn' } }, [
            'none',
            'none',
            'sizes',
          ]),
        ],
        initializers: [empty('none'), integers('sizes', [1, 2, 7, 3])],
      },
      'node "the node" (Resize) has coordinate_transformation_mode tf_half_pixel_for_nn',
    ],
    ['opset 10', { nodes: [one('Relu')], opset: 10 }, 'uses opset 10; training needs opset 11 or later'],
  ]

  test.each(rejected)('%s', (_, old, message) => {
    let error: unknown
    try {
      raised(oldModel(old))
    } catch (caught) {
      error = caught
    }
    expect(FourierFTError.isInstance(error) && error.code).toBe('UNSUPPORTED')
    expect(String(error)).toContain(message)
  })
})
