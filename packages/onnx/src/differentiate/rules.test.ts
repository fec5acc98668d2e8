/** Every gradient rule against central differences. */
import { describe, expect, test } from 'vitest'
import type { NewAttribute, NewNode } from '../model/encode.js'
import {
  floats,
  type GradientCase,
  gradientError,
  integers,
  type Numbers,
  numbers,
  one,
} from './__fixtures__/check-gradient.js'

const x23 = numbers([2, 3], 1)
/** Away from 0, where many functions have a kink. */
const apart: Numbers = { dims: [2, 3], data: [-1.7, -0.9, -0.4, 0.3, 0.8, 1.6] }
const positive = numbers([2, 3], 2, 0.3, 3)

const unary = (name: string, x = apart, attributes = {}): [string, GradientCase] => [
  name,
  { nodes: [one(name, ['x'], attributes)], inputs: { x } },
]
const inFloat = ([name, testCase]: [string, GradientCase]): [string, GradientCase] => [
  name,
  { ...testCase, isFloat: true },
]
const binary = (name: string, a = x23, b = positive): [string, GradientCase] => [
  `${name} ${JSON.stringify(a.dims)} ${JSON.stringify(b.dims)}`,
  { nodes: [one(name, ['a', 'b'])], inputs: { a, b } },
]
const [, ...shapes] = ['', [1, 3], [3], [2, 1], [1], []] as unknown as number[][]

const MS = 'com.microsoft'

const node = (opType: string, inputs: readonly string[], output: string): NewNode => ({
  opType,
  inputs,
  outputs: [output],
})

const matMuls: [string, GradientCase][] = [
  [
    [2, 3],
    [3, 4],
  ],
  [
    [2, 5, 3],
    [3, 4],
  ],
  [
    [2, 5, 3],
    [2, 3, 4],
  ],
  [
    [2, 1, 5, 3],
    [2, 3, 4],
  ],
  [
    [5, 3],
    [2, 3, 4],
  ],
  [[3], [3, 4]],
  [[2, 5, 3], [3]],
  [[3], [3]],
  [[3], [2, 3, 4]],
].flatMap(([a, b]): [string, GradientCase][] => {
  const inputs = { a: numbers(a, 1), b: numbers(b, 2) }
  const nodes = [one('MatMul', ['a', 'b'])]
  const open = { a: a.map((_, i) => `a${i}`), b: b.map((_, i) => `b${i}`) }
  const name = `MatMul ${JSON.stringify(a)} ${JSON.stringify(b)}`
  return [
    [name, { nodes, inputs }],
    [`${name} with open dims`, { nodes, inputs, declared: open }],
  ]
})

const gemms: [string, GradientCase][] = [0, 1].flatMap((transA) =>
  [0, 1].flatMap((transB): [string, GradientCase][] => {
    const flags = { transA: { int: transA }, transB: { int: transB } }
    const swap = (dims: [number, number], isSwapped: number) => (isSwapped ? dims.toReversed() : dims)
    const inputs = { a: numbers(swap([2, 3], transA), 1), b: numbers(swap([3, 4], transB), 2) }
    const c = numbers([4], 3)
    const factors = { alpha: { float: 0.5 }, beta: { float: 1.5 } }
    const batched = {
      a: numbers([2, ...swap([2, 3], transA)], 1),
      b: numbers([2, ...swap([3, 4], transB)], 2),
    }
    const fused = { ...flags, alpha: { float: 0.5 } }
    return [
      [
        `Gemm ${transA}${transB}`,
        { nodes: [one('Gemm', ['a', 'b', 'c'], { ...flags, ...factors })], inputs: { ...inputs, c } },
      ],
      [
        `FusedMatMul ${transA}${transB}`,
        { nodes: [one('FusedMatMul', ['a', 'b'], fused, MS)], inputs: batched, isFloat: true, domains: [MS] },
      ],
      [
        `FusedMatMul ${transA}${transB} with a matrix`,
        {
          nodes: [one('FusedMatMul', ['a', 'b'], fused, MS)],
          inputs: { ...batched, b: inputs.b },
          isFloat: true,
          domains: [MS],
        },
      ],
    ]
  }),
)

/** Sizes of other names differ when the graph runs: one of them is 1. */
const differentSizes: [string, GradientCase][] = [
  [
    'MatMul',
    {
      nodes: [one('MatMul', ['a', 'b'])],
      inputs: { a: numbers([5, 2, 3], 1), b: numbers([1, 3, 2], 2) },
      declared: { a: ['n', 2, 3], b: ['m', 3, 2] },
    },
  ],
  [
    'Add and Mul',
    {
      nodes: [node('Add', ['a', 'b'], 'sum'), one('Mul', ['sum', 'a'])],
      inputs: { a: numbers([1, 3], 1), b: numbers([5, 3], 2) },
      declared: { a: ['n', 3], b: ['m', 3] },
    },
  ],
  [
    'Mul along later axes',
    {
      nodes: [one('Mul', ['a', 'b'])],
      inputs: { a: numbers([2, 1], 1), b: numbers([2, 4], 2) },
      declared: { a: ['batch', 'p'], b: ['batch', 'q'] },
    },
  ],
].map(([name, testCase]): [string, GradientCase] => [`${name} of different sizes`, testCase as GradientCase])

const x234 = numbers([2, 3, 4], 1)
const [scale4, bias4] = [numbers([4], 2), numbers([4], 3)]
const normalisations: [string, GradientCase][] = [
  [
    'LayerNormalization',
    { nodes: [one('LayerNormalization', ['x', 's', 'b'])], inputs: { x: x234, s: scale4, b: bias4 } },
  ],
  [
    'LayerNormalization over two axes',
    {
      nodes: [one('LayerNormalization', ['x', 's'], { axis: { int: 1 } })],
      inputs: { x: x234, s: numbers([3, 4], 2) },
    },
  ],
  [
    'RMSNormalization',
    {
      nodes: [one('RMSNormalization', ['x', 's'])],
      inputs: { x: x234, s: scale4 },
      opset: 23,
      isFloat: true,
    },
  ],
  [
    'SimplifiedLayerNormalization',
    {
      nodes: [one('SimplifiedLayerNormalization', ['x', 's'])],
      inputs: { x: x234, s: scale4 },
      isFloat: true,
    },
  ],
  [
    'SkipLayerNormalization',
    {
      nodes: [
        {
          ...one('SkipLayerNormalization', ['x', 'k', 's', 'b', 'c'], {}, MS),
          outputs: ['y', '', '', 'sum'],
        },
      ],
      inputs: { x: x234, k: numbers([2, 3, 4], 5) },
      initializers: [floats('s', scale4, true), floats('b', bias4, true), floats('c', numbers([4], 9), true)],
      outputs: ['y', 'sum'],
      isFloat: true,
      domains: [MS],
    },
  ],
  [
    'SkipLayerNormalization without its sum',
    {
      nodes: [one('SkipLayerNormalization', ['x', 'k', 's', 'b'], {}, MS)],
      inputs: { x: x234, k: numbers([2, 3, 4], 5) },
      initializers: [floats('s', scale4, true), floats('b', bias4, true)],
      isFloat: true,
      domains: [MS],
    },
  ],
  [
    'SkipSimplifiedLayerNormalization',
    {
      nodes: [
        {
          ...one('SkipSimplifiedLayerNormalization', ['x', 'k', 's'], {}, MS),
          outputs: ['y', '', '', 'sum'],
        },
      ],
      inputs: { x: x234, k: numbers([2, 3, 4], 5) },
      initializers: [floats('s', scale4, true)],
      outputs: ['y', 'sum'],
      isFloat: true,
      domains: [MS],
    },
  ],
  [
    'InstanceNormalization',
    {
      nodes: [one('InstanceNormalization', ['x', 's', 'b'])],
      inputs: { x: x234 },
      initializers: [floats('s', numbers([3], 2), true), floats('b', numbers([3], 3), true)],
      isFloat: true,
    },
  ],
  [
    'BatchNormalization',
    {
      nodes: [one('BatchNormalization', ['x', 's', 'b', 'm', 'v'])],
      inputs: { x: x234 },
      initializers: ['s', 'b', 'm', 'v'].map((name, i) => floats(name, numbers([3], i + 2, 0.5, 2))),
    },
  ],
  ['LpNormalization', { nodes: [one('LpNormalization', ['x'], { axis: { int: 1 } })], inputs: { x: x234 } }],
]

const reductions: [string, GradientCase][] = [
  'ReduceSum',
  'ReduceMean',
  'ReduceSumSquare',
  'ReduceL2',
  'ReduceL1',
  'ReduceLogSumExp',
  'ReduceMax',
  'ReduceMin',
].flatMap((name) => {
  const isFloat = name === 'ReduceL1' || name === 'ReduceL2'
  return [
    [[1], 1],
    [[1], 0],
    [[0, -1], 0],
    [undefined, 1],
    [undefined, 0],
  ].map(([axes, keepdims]): [string, GradientCase] => {
    const list = axes as number[] | undefined
    const flags = { keepdims: { int: keepdims as number } }
    return [
      `${name} axes ${list} keepdims ${keepdims}`,
      {
        nodes: [one(name, list ? ['x', 'axes'] : ['x'], flags)],
        inputs: { x: numbers([2, 3, 2], 3) },
        initializers: list ? [integers('axes', list)] : [],
        isFloat,
      },
    ]
  })
})
reductions.push(
  [
    'ReduceMean of opset 17, axes as an attribute',
    { nodes: [one('ReduceMean', ['x'], { axes: { ints: [-1] } })], inputs: { x: x234 }, opset: 17 },
  ],
  [
    'CumSum',
    {
      nodes: [one('CumSum', ['x', 'axis'], { exclusive: { int: 1 } })],
      inputs: { x: x234 },
      initializers: [integers('axis', [1], [])],
    },
  ],
  [
    'GlobalAveragePool',
    { nodes: [one('GlobalAveragePool', ['x'])], inputs: { x: numbers([2, 3, 2, 2], 1) }, isFloat: true },
  ],
)

const withIntegers = (
  name: string,
  nodes: readonly NewNode[],
  lists: Record<string, readonly number[] | number>,
  x = x234,
): [string, GradientCase] => [
  name,
  {
    nodes,
    inputs: { x },
    initializers: Object.entries(lists).map(([key, list]) =>
      typeof list === 'number' ? integers(key, [list], []) : integers(key, list),
    ),
  },
]
const reshapings: [string, GradientCase][] = [
  withIntegers('Reshape', [one('Reshape', ['x', 's'])], { s: [0, -1] }),
  withIntegers('Flatten', [one('Flatten', ['x'], { axis: { int: 2 } })], {}),
  withIntegers('Squeeze and Unsqueeze', [node('Unsqueeze', ['x', 'a'], 'u'), one('Squeeze', ['u', 'a'])], {
    a: [1],
  }),
  withIntegers('Transpose', [one('Transpose', ['x'], { perm: { ints: [2, 0, 1] } })], {}),
  withIntegers('Transpose without perm', [one('Transpose', ['x'])], {}),
  withIntegers('Expand', [one('Expand', ['x', 's'])], { s: [2, 2, 5, 4] }, numbers([2, 1, 4], 3)),
  withIntegers('Tile', [one('Tile', ['x', 'r'])], { r: [2, 1, 3] }),
]

const slicings: [string, GradientCase][] = [
  withIntegers('Slice', [one('Slice', ['x', 's', 'e', 'a'])], { s: [1, -3], e: [100, -1], a: [1, 2] }),
  withIntegers('Slice with steps', [one('Slice', ['x', 's', 'e', 'a', 't'])], {
    s: [0, -1],
    e: [3, -100],
    a: [1, 2],
    t: [2, -1],
  }),
  withIntegers('Slice without axes', [one('Slice', ['x', 's', 'e'])], { s: [0, 1], e: [1, 3] }),
  [
    'Slice of open dims',
    {
      ...withIntegers('', [one('Slice', ['x', 's', 'e', 'a'])], { s: [1], e: [-1], a: [2] })[1],
      declared: { x: ['b', 's', 'd'] },
    },
  ],
  [
    'Split with an output that nothing reads',
    {
      nodes: [
        { opType: 'Split', inputs: ['x', 's'], outputs: ['a', 'b', 'c'], attributes: { axis: { int: 2 } } },
        one('Mul', ['a', 'a']),
      ],
      inputs: { x: x234 },
      initializers: [integers('s', [1, 2, 1])],
    },
  ],
  [
    'Split into equal parts',
    {
      nodes: [
        {
          opType: 'Split',
          inputs: ['x'],
          outputs: ['a', 'b'],
          attributes: { axis: { int: -1 }, num_outputs: { int: 2 } },
        },
        one('Mul', ['a', 'b']),
      ],
      inputs: { x: x234 },
    },
  ],
  [
    'Concat',
    {
      nodes: [one('Concat', ['a', 'b', 'c'], { axis: { int: -2 } })],
      inputs: { a: x234, b: numbers([2, 1, 4], 2), c: numbers([2, 2, 4], 3) },
    },
  ],
  withIntegers('Pad', [one('Pad', ['x', 'p'])], { p: [0, 1, 2, 1, 0, 0] }),
  withIntegers('Pad of two axes', [one('Pad', ['x', 'p', '', 'a'])], { p: [1, 2, 0, 1], a: [2, 0] }),
  withIntegers('Gather of one index', [one('Gather', ['x', 'i'], { axis: { int: 1 } })], { i: 1 }),
  withIntegers('Gather of a negative index', [one('Gather', ['x', 'i'], { axis: { int: -1 } })], { i: -2 }),
  withIntegers('Gather of indices that repeat', [one('Gather', ['x', 'i'], { axis: { int: 1 } })], {
    i: [2, 0, 2, -1],
  }),
  [
    'Gather of a matrix of indices',
    {
      nodes: [one('Gather', ['x', 'i'], { axis: { int: 0 } })],
      inputs: { x: x234 },
      initializers: [integers('i', [1, 0, 1, 1, 0, 1], [2, 3])],
    },
  ],
  [
    'GatherElements',
    {
      nodes: [one('GatherElements', ['x', 'i'], { axis: { int: -1 } })],
      inputs: { x: x23 },
      initializers: [integers('i', [2, 2, 0, 1], [2, 2])],
    },
  ],
  [
    'GatherND',
    {
      nodes: [one('GatherND', ['x', 'i'])],
      inputs: { x: x234 },
      initializers: [integers('i', [0, 2, 1, -1, 0, 2], [3, 2])],
    },
  ],
  [
    'ScatterND',
    {
      nodes: [one('ScatterND', ['x', 'i', 'u'])],
      inputs: { x: x234, u: numbers([2, 4], 6) },
      initializers: [integers('i', [0, 2, 1, 1], [2, 2])],
    },
  ],
  [
    'ScatterElements',
    {
      nodes: [one('ScatterElements', ['x', 'i', 'u'], { axis: { int: 1 } })],
      inputs: { x: x23, u: numbers([2, 2], 6) },
      initializers: [integers('i', [0, 2, 1, 2], [2, 2])],
    },
  ],
  ['Trilu', { nodes: [one('Trilu', ['x'], { upper: { int: 0 } })], inputs: { x: numbers([2, 3, 3], 3) } }],
]

const convolutions: [string, GradientCase][] = [
  [{}, [1, 2, 5, 6], [3, 2, 3, 2]],
  [{ strides: { ints: [2, 3] }, pads: { ints: [1, 0, 1, 2] } }, [2, 2, 6, 7], [3, 2, 3, 2]],
  [{ strides: { ints: [4, 4] } }, [1, 2, 9, 11], [3, 2, 4, 4]],
  [{ group: { int: 2 }, dilations: { ints: [2] }, pads: { ints: [2, 2] } }, [2, 4, 7], [6, 2, 3]],
].map(([attributes, x, w]): [string, GradientCase] => [
  `Conv ${JSON.stringify(attributes)}`,
  {
    nodes: [one('Conv', ['x', 'w'], attributes as never)],
    inputs: { x: numbers(x as number[], 1) },
    initializers: [floats('w', numbers(w as number[], 2), true)],
    isFloat: true,
  },
])
convolutions.push(
  [
    'AveragePool',
    {
      nodes: [one('AveragePool', ['x'], { kernel_shape: { ints: [2, 3] }, strides: { ints: [2, 2] } })],
      inputs: { x: numbers([2, 2, 5, 6], 1) },
      isFloat: true,
    },
  ],
  [
    'AveragePool with pads',
    {
      nodes: [
        one('AveragePool', ['x'], {
          kernel_shape: { ints: [3] },
          pads: { ints: [1, 1] },
          count_include_pad: { int: 1 },
        }),
      ],
      inputs: { x: numbers([2, 2, 5], 1) },
      isFloat: true,
    },
  ],
  ...(
    [
      { ceil_mode: { int: 1 }, strides: { ints: [2, 2] } },
      { ceil_mode: { int: 1 }, strides: { ints: [2, 2] }, pads: { ints: [0, 0, 1, 0] } },
      {
        ceil_mode: { int: 1 },
        strides: { ints: [2, 3] },
        pads: { ints: [1, 1, 0, 1] },
        count_include_pad: { int: 1 },
      },
      { pads: { ints: [1, 1, 1, 2] } },
      { pads: { ints: [1, 0, 1, 2] }, strides: { ints: [3, 2] } },
    ] as readonly Readonly<Record<string, NewAttribute>>[]
  ).flatMap((attributes): [string, GradientCase][] => {
    const kernel = { kernel_shape: { ints: [2, 3] } }
    const inputs = { x: numbers([2, 2, 5, 6], 1) }
    const { count_include_pad: _, ...forMax } = attributes
    return [
      [
        `AveragePool ${JSON.stringify(attributes)}`,
        { nodes: [one('AveragePool', ['x'], { ...kernel, ...attributes })], inputs, isFloat: true },
      ],
      [
        `MaxPool ${JSON.stringify(attributes)}`,
        {
          nodes: [one('MaxPool', ['x'], { ...kernel, ...forMax })],
          inputs: { x: { dims: [2, 2, 5, 6], data: inputs.x.data.map((_, i) => ((37 * i) % 120) / 10) } },
          isFloat: true,
        },
      ],
    ]
  }),
)

const cases: readonly [string, GradientCase][] = [
  ...['Identity', 'Neg', 'Abs', 'Exp', 'Reciprocal', 'Tanh', 'Sigmoid', 'Relu'].map((name) => unary(name)),
  ...['Sqrt', 'Log'].map((name) => unary(name, positive)),
  ...[
    'Erf',
    'Sin',
    'Cos',
    'Sinh',
    'Cosh',
    'Elu',
    'Selu',
    'Celu',
    'LeakyRelu',
    'Softplus',
    'Softsign',
    'HardSigmoid',
    'HardSwish',
    'Mish',
    'ThresholdedRelu',
  ].map((name) => inFloat(unary(name))),
  inFloat(unary('Tan', numbers([2, 3], 1, -1, 1))),
  ...shapes.flatMap((dims) =>
    ['Add', 'Sub', 'Mul', 'Div', 'Pow'].map((name) =>
      binary(name, name === 'Pow' ? positive : x23, numbers(dims, 5, 0.5, 2)),
    ),
  ),
  ...shapes.flatMap((dims) =>
    ['Add', 'Sub', 'Mul', 'Div'].map((name) => binary(name, numbers(dims, 4), positive)),
  ),
  [
    'broadcasting of dims that the file leaves open',
    {
      nodes: [one('Mul', ['a', 'b'])],
      inputs: { a: numbers([2, 3, 4], 1), b: numbers([1, 4], 2) },
      declared: { a: ['r', 's', 't'], b: ['u', 'v'] },
    },
  ],
  ['a value that is read twice', { nodes: [one('Mul', ['x', 'x'])], inputs: { x: x23 } }],
  [
    'Min and Max of three',
    {
      nodes: [node('Max', ['a', 'b', 'c'], 'm'), one('Min', ['m', 'd'])],
      inputs: { a: x23, b: numbers([3], 9), c: numbers([2, 1], 10), d: numbers([2, 3], 11, 0, 1) },
    },
  ],
  [
    'Sum',
    { nodes: [one('Sum', ['a', 'b', 'c'])], inputs: { a: x23, b: numbers([3], 9), c: numbers([2, 1], 10) } },
  ],
  ['Mean', { nodes: [one('Mean', ['a', 'b'])], inputs: { a: x23, b: numbers([3], 9) }, isFloat: true }],
  ['PRelu', { nodes: [one('PRelu', ['x', 's'])], inputs: { x: apart, s: numbers([3], 4) } }],
  [
    'Where',
    {
      nodes: [node('Greater', ['a', 'b'], 'c'), one('Where', ['c', 'a', 'b'])],
      inputs: { a: x23, b: numbers([3], 9) },
    },
  ],
  [
    'Clip',
    {
      nodes: [one('Clip', ['x', 'low', 'high'])],
      inputs: { x: apart },
      initializers: [floats('low', { dims: [], data: [-1] }), floats('high', { dims: [], data: [1.1] })],
    },
  ],
  ...(['none', 'tanh'] as const).map((approximate): [string, GradientCase] => [
    `Gelu ${approximate}`,
    {
      nodes: [one('Gelu', ['x'], { approximate: { string: approximate } })],
      inputs: { x: apart },
      isFloat: true,
      opset: 20,
    },
  ]),
  [
    'com.microsoft Gelu',
    { nodes: [one('Gelu', ['x'], {}, MS)], inputs: { x: apart }, isFloat: true, domains: [MS] },
  ],
  [
    'QuickGelu',
    { nodes: [one('QuickGelu', ['x'], {}, MS)], inputs: { x: apart }, isFloat: true, domains: [MS] },
  ],
  [
    'FastGelu',
    {
      nodes: [one('FastGelu', ['x', 'b'], {}, MS)],
      inputs: { x: apart, b: numbers([3], 5) },
      isFloat: true,
      domains: [MS],
    },
  ],
  [
    'BiasGelu',
    {
      nodes: [one('BiasGelu', ['x', 'b'], {}, MS)],
      inputs: { x: apart, b: numbers([3], 5) },
      isFloat: true,
      domains: [MS],
    },
  ],
  ...matMuls,
  ...gemms,
  ...['ij,jk->ik', 'bij,bkj->bik', 'bhij,bhjd->bihd', 'ij,kj->i'].map((equation): [string, GradientCase] => {
    const sizes: Record<string, number> = { b: 2, h: 3, i: 4, j: 5, k: 2, d: 3 }
    const [a = '', b = ''] = equation
      .split('->')[0]
      .split(',')
      .map((term) => term)
    const dims = (term: string) => [...term].map((letter) => sizes[letter])
    return [
      `Einsum ${equation}`,
      {
        nodes: [one('Einsum', ['a', 'b'], { equation: { string: equation } })],
        inputs: { a: numbers(dims(a), 1), b: numbers(dims(b), 2) },
      },
    ]
  }),
  ...(
    [
      ['...qhd,...khd->...hqk', [2, 3, 4, 2, 3], [2, 3, 5, 2, 3]],
      ['...ij,...jk->...ik', [1, 3, 4], [2, 4, 2]],
      ['...ij,jk->...ik', [2, 3, 4], [4, 2]],
      ['...i,...i->...', [2, 3], [2, 3]],
    ] as const
  ).map(([equation, a, b]): [string, GradientCase] => [
    `Einsum ${equation} ${JSON.stringify(a)}`,
    {
      nodes: [one('Einsum', ['a', 'b'], { equation: { string: equation } })],
      inputs: { a: numbers(a, 1), b: numbers(b, 2) },
    },
  ]),
  ...(
    [
      ['ij,jk->ik', [2, 1], [5, 4]],
      ['ij,kj->i', [2, 1], [3, 4]],
      ['ij,kj->ik', [2, 4], [3, 1]],
      ['...ij,jk->...i', [2, 3, 4], [1, 2]],
    ] as const
  ).flatMap(([equation, a, b]): [string, GradientCase][] => {
    const nodes = [one('Einsum', ['a', 'b'], { equation: { string: equation } })]
    const inputs = { a: numbers(a, 1), b: numbers(b, 2) }
    const open = { a: a.map((_, i) => `a${i}`), b: b.map((_, i) => `b${i}`) }
    const name = `Einsum ${equation} with an axis of size 1`
    return [
      [name, { nodes, inputs }],
      [`${name} and open dims`, { nodes, inputs, declared: open }],
    ]
  }),
  ...normalisations,
  ...[-1, 0, 1].flatMap((axis) =>
    ['Softmax', 'LogSoftmax'].map((name): [string, GradientCase] => [
      `${name} along axis ${axis}`,
      { nodes: [one(name, ['x'], { axis: { int: axis } })], inputs: { x: numbers([2, 3, 4], 1) } },
    ]),
  ),
  ...differentSizes,
  ...reductions,
  ...reshapings,
  ...slicings,
  ...convolutions,
]

describe('gradient rules equal central differences', () => {
  test.each(cases)('%s', async (_, testCase) => {
    expect(await gradientError(testCase)).toBeLessThan(testCase.isFloat ? 2e-3 : 1e-8)
  })
})
