/** Fused nodes against the standard operators that replace them, and their gradients against central differences. */
import fc from 'fast-check'
import { Tensor } from 'onnxruntime-node'
import { describe, expect, test } from 'vitest'
import { modelBytes, quickOrAllCases, RUNS_ALL_CASES } from '../../__fixtures__/model-files.js'
import { createSession } from '../../__fixtures__/onnx-runtime.js'
import { createModel } from '../../model/create-model.js'
import type { NewAttribute } from '../../model/encode.js'
import { readModel } from '../../model/model.js'
import { DataType } from '../../model/schema.js'
import {
  floats,
  type GradientCase,
  gradientError,
  integers,
  type Numbers,
  numbers,
  one,
} from '../__fixtures__/check-gradient.js'
import { UNFOLDED_OPERATORS, unfoldFused } from './unfold-fused.js'

const MS = 'com.microsoft'

const int = (value: number): NewAttribute => ({ int: value })
const float = (value: number): NewAttribute => ({ float: value })

function int32s(name: string, values: readonly number[], dims: readonly number[] = [values.length]) {
  return { name, dims, dataType: DataType.int32, data: new Uint8Array(Int32Array.from(values).buffer) }
}

function booleans(name: string, values: readonly number[], dims: readonly number[]) {
  return { name, dims, dataType: DataType.bool, data: Uint8Array.from(values) }
}

type FusedCase = GradientCase

/** A case of a fused node with the inputs `q`, `k`, … that are not constants. */
function fused(
  opType: string,
  inputs: readonly string[],
  attributes: Readonly<Record<string, NewAttribute>>,
  values: Readonly<Record<string, Numbers>>,
  rest: Partial<FusedCase> = {},
): FusedCase {
  return {
    nodes: [one(opType, inputs, attributes, MS)],
    inputs: values,
    isFloat: true,
    domains: [MS],
    ...rest,
  }
}

function modelOf({
  nodes,
  inputs,
  declared = {},
  initializers = [],
  outputs = ['y'],
  opset = 18,
  domains = [],
}: FusedCase) {
  const model = createModel(
    {
      name: 'main',
      nodes,
      inputs: Object.entries(inputs).map(([name, { dims }]) => ({
        name,
        dataType: DataType.float,
        dims: declared[name] ?? dims,
      })),
      outputs: outputs.map((name) => ({ name })),
      initializers,
    },
    { opset },
  )
  for (const domain of domains) model.addOpsetImport(domain, 1)
  return model
}

/** The largest difference of the outputs of the fused and of the unfolded graph. */
async function forwardError(testCase: FusedCase): Promise<number> {
  const { inputs, outputs = ['y'] } = testCase
  const model = modelOf(testCase)
  const active = new Set(model.graph.nodes.flatMap((node) => node.outputs))
  unfoldFused(model, { active, seeds: outputs })
  expect(model.graph.nodes.every(({ domain }) => domain === '')).toBe(true)
  expect(model.graph.nodes.every(({ opType }) => !UNFOLDED_OPERATORS.has(opType))).toBe(true)
  const bytes = model.toBytes()
  readModel(bytes)
  const feeds = Object.fromEntries(
    Object.entries(inputs).map(([name, { dims, data }]) => [
      name,
      new Tensor('float32', Float32Array.from(data), dims),
    ]),
  )
  const sessions = [await createSession(modelOf(testCase).toBytes()), await createSession(bytes)]
  const [expected, received] = await Promise.all(sessions.map((session) => session.run(feeds)))
  await Promise.all(sessions.map((session) => session.release()))
  let worst = 0
  for (const name of outputs) {
    expect(received[name].dims).toEqual(expected[name].dims)
    const [a, b] = [expected[name].data, received[name].data] as [Float32Array, Float32Array]
    for (const [i, value] of a.entries()) worst = Math.max(worst, Math.abs(value - b[i]))
    expect(a.some((value) => value !== 0)).toBe(true)
    expect([...a, ...b].some(Number.isNaN)).toBe(false)
  }
  return worst
}

const [B, S, T, N, H] = [2, 4, 5, 3, 2] as const
const x = numbers([B, S, N * H], 1)
const [k, v] = [numbers([B, T, N * H], 2), numbers([B, T, N * H], 3)]
const [ownK, ownV] = [numbers([B, S, N * H], 2), numbers([B, S, N * H], 3)]
const heads = { num_heads: int(N) }

/** Masks of `MultiHeadAttention` for B rows and T keys. */
const masks: [string, ReturnType<typeof int32s>][] = [
  ['[B]', int32s('m', [3, 5])],
  ['[3B+2]', int32s('m', [3, 5, 0, 4, 8, 0, 3, 8])],
  ['[B, T]', int32s('m', [1, 1, 0, 1, 0, 0, 1, 1, 1, 1], [B, T])],
  [
    '[B, S, T]',
    int32s(
      'm',
      Array.from({ length: B * S * T }, (_, i) => ((i * 7) % 3 === 0 ? 0 : 1)),
      [B, S, T],
    ),
  ],
]
const mha = (
  inputs: readonly string[],
  attributes: Readonly<Record<string, NewAttribute>> = {},
  rest: Partial<FusedCase> & { values?: Readonly<Record<string, Numbers>> } = {},
) => fused('MultiHeadAttention', inputs, { ...heads, ...attributes }, rest.values ?? { q: x, k, v }, rest)

const multiHead: [string, FusedCase][] = [
  ['plain', mha(['q', 'k', 'v'])],
  ['one head', mha(['q', 'k', 'v'], { num_heads: int(1) })],
  ['a scale', mha(['q', 'k', 'v'], { scale: float(0.3) })],
  ['values of another size', mha(['q', 'k', 'v'], {}, { values: { q: x, k, v: numbers([B, T, N * 4], 3) } })],
  ['a bias', mha(['q', 'k', 'v', 'b'], {}, { values: { q: x, k, v, b: numbers([3 * N * H], 4) } })],
  [
    'a bias and values of another size',
    mha(
      ['q', 'k', 'v', 'b'],
      {},
      { values: { q: x, k, v: numbers([B, T, N * 4], 3), b: numbers([2 * N * H + N * 4], 4) } },
    ),
  ],
  ...masks.map(([name, mask]): [string, FusedCase] => [
    `the mask ${name}`,
    mha(['q', 'k', 'v', '', 'm'], {}, { initializers: [mask] }),
  ]),
  ...masks.map(([name, mask]): [string, FusedCase] => [
    `the mask ${name}, a soft filter`,
    mha(['q', 'k', 'v', '', 'm'], { mask_filter_value: float(-1.5) }, { initializers: [mask] }),
  ]),
  [
    'unidirectional',
    mha(['q', 'k', 'v'], { unidirectional: int(1) }, { values: { q: x, k: ownK, v: ownV } }),
  ],
  ['unidirectional, more keys than queries', mha(['q', 'k', 'v'], { unidirectional: int(1) })],
  [
    'unidirectional, fewer keys than queries',
    mha(
      ['q', 'k', 'v'],
      { unidirectional: int(1) },
      { values: { q: x, k: numbers([B, 3, N * H], 2), v: numbers([B, 3, N * H], 3) } },
    ),
  ],
  [
    'unidirectional, one query',
    mha(['q', 'k', 'v'], { unidirectional: int(1) }, { values: { q: numbers([B, 1, N * H], 1), k, v } }),
  ],
  ...masks.map(([name, mask]): [string, FusedCase] => [
    `unidirectional with the mask ${name}`,
    mha(['q', 'k', 'v', '', 'm'], { unidirectional: int(1) }, { initializers: [mask] }),
  ]),
  ...[
    [B, N, S, T],
    [1, N, S, T],
    [B, 1, S, T],
    [1, 1, S, T],
  ].map((dims): [string, FusedCase] => [
    `attention_bias ${JSON.stringify(dims)}`,
    mha(['q', 'k', 'v', '', '', 'a'], {}, { values: { q: x, k, v, a: numbers(dims, 5) } }),
  ]),
  [
    'attention_bias and a mask',
    mha(
      ['q', 'k', 'v', '', 'm', 'a'],
      {},
      { values: { q: x, k, v, a: numbers([1, N, S, T], 5) }, initializers: [masks[2][1]] },
    ),
  ],
  [
    'keys and values of four dims',
    mha(['q', 'k', 'v'], {}, { values: { q: x, k: numbers([B, N, T, H], 2), v: numbers([B, N, T, H], 3) } }),
  ],
  [
    'sizes that the file leaves open',
    mha(
      ['q', 'k', 'v', '', 'm'],
      { unidirectional: int(1) },
      {
        initializers: [masks[2][1]],
        declared: { q: ['b', 's', 'd'], k: ['b', 't', 'd'], v: ['b', 't', 'd'] },
      },
    ),
  ],
  [
    'present keys and values',
    {
      ...mha([], {}, { outputs: ['y', 'pk', 'pv'] }),
      nodes: [{ ...one('MultiHeadAttention', ['q', 'k', 'v'], heads, MS), outputs: ['y', 'pk', 'pv'] }],
    },
  ],
  [
    'a cache',
    {
      ...mha(
        [],
        {},
        {
          values: { q: x, k: ownK, v: ownV, c: numbers([B, N, 2, H], 8), d: numbers([B, N, 2, H], 9) },
          outputs: ['y', 'pk', 'pv'],
        },
      ),
      nodes: [
        {
          ...one(
            'MultiHeadAttention',
            ['q', 'k', 'v', '', '', '', 'c', 'd'],
            { ...heads, unidirectional: int(1) },
            MS,
          ),
          outputs: ['y', 'pk', 'pv'],
        },
      ],
    },
  ],
  [
    'an empty cache',
    {
      ...mha(
        [],
        {},
        {
          values: { q: x, k: ownK, v: ownV },
          initializers: [floats('c', { dims: [B, N, 0, H], data: [] }, true)],
          outputs: ['y', 'pk', 'pv'],
        },
      ),
      nodes: [
        {
          ...one(
            'MultiHeadAttention',
            ['q', 'k', 'v', '', '', '', 'c', 'c'],
            { ...heads, unidirectional: int(1) },
            MS,
          ),
          outputs: ['y', 'pk', 'pv'],
        },
      ],
    },
  ],
]

const D = 5
const weights = floats('w', numbers([D, 3 * N * H], 6), true)
const bias = floats('b', numbers([3 * N * H], 7), true)
const input = numbers([B, S, D], 1)
const packed = (
  inputs: readonly string[],
  attributes: Readonly<Record<string, NewAttribute>> = {},
  rest: Partial<FusedCase> & { values?: Readonly<Record<string, Numbers>> } = {},
) =>
  fused('Attention', inputs, { ...heads, ...attributes }, rest.values ?? { x: input }, {
    ...rest,
    initializers: [weights, bias, ...(rest.initializers ?? [])],
  })
const ownMasks: [string, ReturnType<typeof int32s>][] = [
  ['[B]', int32s('m', [3, 4])],
  ['[2B]', int32s('m', [3, 4, 1, 0])],
  ['[B, T]', int32s('m', [1, 1, 0, 1, 1, 0, 1, 1], [B, S])],
  ['[B, 1]', int32s('m', [1, 0], [B, 1])],
  ['[1, 1]', int32s('m', [1], [1, 1])],
  [
    '[B, S, T]',
    int32s(
      'm',
      Array.from({ length: B * S * S }, (_, i) => ((i * 5) % 3 === 0 ? 0 : 1)),
      [B, S, S],
    ),
  ],
]
const attention: [string, FusedCase][] = [
  ['plain', packed(['x', 'w', 'b'])],
  ['a scale', packed(['x', 'w', 'b'], { scale: float(0.7) })],
  ['unidirectional', packed(['x', 'w', 'b'], { unidirectional: int(1) })],
  ...[0, 1].flatMap((unidirectional) =>
    ownMasks.map(([name, mask]): [string, FusedCase] => [
      `the mask ${name}${unidirectional ? ', unidirectional' : ''}`,
      packed(['x', 'w', 'b', 'm'], { unidirectional: int(unidirectional) }, { initializers: [mask] }),
    ]),
  ),
  [
    'a filter value',
    packed(['x', 'w', 'b', 'm'], { mask_filter_value: float(-2) }, { initializers: [ownMasks[2][1]] }),
  ],
  [
    'attention_bias',
    packed(['x', 'w', 'b', '', '', 'a'], {}, { values: { x: input, a: numbers([B, N, S, S], 5) } }),
  ],
  [
    'attention_bias and a mask',
    packed(
      ['x', 'w', 'b', 'm', '', 'a'],
      {},
      { values: { x: input, a: numbers([1, N, S, S], 5) }, initializers: [ownMasks[2][1]] },
    ),
  ],
  [
    'qkv_hidden_sizes',
    packed(
      ['x', 'w4', 'b4'],
      { qkv_hidden_sizes: { ints: [N * H, N * H, N * 4] } },
      {
        initializers: [
          floats('w4', numbers([D, 2 * N * H + N * 4], 6), true),
          floats('b4', numbers([2 * N * H + N * 4], 7), true),
        ],
      },
    ),
  ],
  [
    'present',
    {
      ...packed([], {}, { outputs: ['y', 'p'] }),
      nodes: [
        {
          ...one('Attention', ['x', 'w', 'b'], { ...heads, unidirectional: int(1) }, MS),
          outputs: ['y', 'p'],
        },
      ],
    },
  ],
  [
    'past and present',
    {
      ...packed([], {}, { outputs: ['y', 'p'], values: { x: input, c: numbers([2, B, N, 3, H], 8) } }),
      nodes: [
        {
          ...one('Attention', ['x', 'w', 'b', '', 'c'], { ...heads, unidirectional: int(1) }, MS),
          outputs: ['y', 'p'],
        },
      ],
    },
  ],
]

const [kvN, G] = [2, 2]
const [qN, gH] = [kvN * G, 16]
const gqaValues = {
  q: numbers([B, S, qN * gH], 1, -1, 1),
  k: numbers([B, S, kvN * gH], 2, -1, 1),
  v: numbers([B, S, kvN * gH], 3, -1, 1),
}
const angles = numbers([9, 8], 12, -3, 3)
const tables = [
  floats('cos', { dims: [9, 8], data: angles.data.map(Math.cos) }, true),
  floats('sin', { dims: [9, 8], data: angles.data.map(Math.sin) }, true),
]
const lengths = [int32s('seqlens', [S - 1, S - 1]), int32s('total', [S], [])]
const gqa = (
  inputs: readonly string[] = [],
  attributes: Readonly<Record<string, NewAttribute>> = {},
  rest: Partial<FusedCase> & { values?: Readonly<Record<string, Numbers>>; first?: readonly string[] } = {},
): FusedCase => {
  const testCase = fused(
    'GroupQueryAttention',
    [...(rest.first ?? ['q', 'k', 'v', '', '']), 'seqlens', 'total', ...inputs],
    { num_heads: int(qN), kv_num_heads: int(kvN), ...attributes },
    rest.values ?? gqaValues,
    { ...rest, initializers: [...(rest.initializers ?? lengths), ...tables] },
  )
  // ONNX Runtime's kernel for processors demands the outputs of the cache.
  return {
    ...testCase,
    nodes: testCase.nodes.map((node) => ({ ...node, outputs: ['y', 'pk', 'pv'] })),
    outputs: ['y', 'pk', 'pv'],
  }
}
/** The case with the output multiplied by 0 at the padding after the rows. */
function onlyTokens(testCase: FusedCase, lengths: readonly number[]): FusedCase {
  const data = lengths.flatMap((length) => Array.from({ length: S }, (_, s) => (s < length ? 1 : 0)))
  const [node] = testCase.nodes
  return {
    ...testCase,
    nodes: [
      { ...node, outputs: ['all', ...node.outputs.slice(1)] },
      { opType: 'Mul', inputs: ['all', 'isToken'], outputs: ['y'] },
    ],
    initializers: [
      ...(testCase.initializers ?? []),
      floats('isToken', { dims: [lengths.length, S, 1], data }, true),
    ],
  }
}
const groupQuery: [string, FusedCase][] = [
  ['plain', gqa()],
  [
    'as many heads',
    gqa(
      [],
      { kv_num_heads: int(4) },
      { values: { ...gqaValues, k: numbers([B, S, qN * gH], 2), v: numbers([B, S, qN * gH], 3) } },
    ),
  ],
  [
    'one head of keys',
    gqa(
      [],
      { kv_num_heads: int(1) },
      { values: { ...gqaValues, k: numbers([B, S, gH], 2), v: numbers([B, S, gH], 3) } },
    ),
  ],
  ['a scale', gqa([], { scale: float(0.5) })],
  ['softcap', gqa([], { softcap: float(0.8) })],
  ['a local window', gqa([], { local_window_size: int(2) })],
  ['a local window, softcap', gqa([], { local_window_size: int(3), softcap: float(2) })],
  ['rotary', gqa(['cos', 'sin'], { do_rotary: int(1) })],
  ['rotary, interleaved', gqa(['cos', 'sin'], { do_rotary: int(1), rotary_interleaved: int(1) })],
  [
    'rotary, half of each head',
    gqa(['cos', 'sin'], { do_rotary: int(1), num_heads: int(2), kv_num_heads: int(1) }),
  ],
  [
    'rotary, position_ids',
    gqa(
      ['cos', 'sin', 'p'],
      { do_rotary: int(1) },
      {
        initializers: [...lengths, integers('p', [3, 4, 5, 6, 0, 1, 2, 8], [B, S])],
      },
    ),
  ],
  [
    'packed',
    gqa(
      [],
      {},
      { first: ['q', '', '', '', ''], values: { q: numbers([B, S, (qN + 2 * kvN) * gH], 1, -1, 1) } },
    ),
  ],
  [
    'packed, rotary, interleaved',
    gqa(
      ['cos', 'sin'],
      { do_rotary: int(1), rotary_interleaved: int(1) },
      {
        first: ['q', '', '', '', ''],
        values: { q: numbers([B, S, (qN + 2 * kvN) * gH], 1, -1, 1) },
      },
    ),
  ],
  ['rows with padding', gqa([], {}, { initializers: [int32s('seqlens', [1, S - 1]), lengths[1]] })],
  [
    'rows with padding, a local window (the tokens of the rows only)',
    onlyTokens(
      gqa([], { local_window_size: int(2) }, { initializers: [int32s('seqlens', [1, S - 1]), lengths[1]] }),
      [2, S],
    ),
  ],
  ...[
    [B, qN, S, S],
    [1, 1, S, S],
    [B, 1, S, S],
  ].map((dims): [string, FusedCase] => [
    `attention_bias ${JSON.stringify(dims)}`,
    gqa(['', '', '', 'a'], { softcap: float(1.5) }, { values: { ...gqaValues, a: numbers(dims, 5) } }),
  ]),
  ['smooth_softmax', gqa([], { smooth_softmax: int(1) })],
  [
    'head_sink',
    gqa(
      ['', '', '', '', 'h'],
      { local_window_size: int(2) },
      { values: { ...gqaValues, h: numbers([qN], 6) } },
    ),
  ],
  [
    'an empty cache',
    gqa(
      ['cos', 'sin'],
      { do_rotary: int(1) },
      {
        first: ['q', 'k', 'v', 'c', 'c'],
        initializers: [...lengths, floats('c', { dims: [B, kvN, 0, gH], data: [] }, true)],
      },
    ),
  ],
  [
    'a cache',
    gqa(
      ['cos', 'sin'],
      { do_rotary: int(1) },
      {
        first: ['q', 'k', 'v', 'c', 'd'],
        values: {
          q: numbers([B, 1, qN * gH], 1),
          k: numbers([B, 1, kvN * gH], 2),
          v: numbers([B, 1, kvN * gH], 3),
          c: numbers([B, kvN, 3, gH], 4),
          d: numbers([B, kvN, 3, gH], 5),
        },
      },
    ),
  ],
]

const onnx = (
  inputs: readonly string[],
  attributes: Readonly<Record<string, NewAttribute>> = {},
  rest: Partial<FusedCase> & { values?: Readonly<Record<string, Numbers>> } = {},
): FusedCase => ({
  ...fused('Attention', inputs, attributes, rest.values ?? {}, { opset: 23, domains: [], ...rest }),
  nodes: [one('Attention', inputs, attributes)],
})
const flat = {
  q: numbers([B, S, 4 * 6], 1, -1, 1),
  k: numbers([B, T, 2 * 6], 2, -1, 1),
  v: numbers([B, T, 2 * 3], 3),
}
const flatHeads = { q_num_heads: int(4), kv_num_heads: int(2) }
const deep = {
  q: numbers([B, 4, S, 6], 1, -1, 1),
  k: numbers([B, 2, T, 6], 2, -1, 1),
  v: numbers([B, 2, T, 3], 3),
}
const flags = (count: number) => Array.from({ length: count }, (_, i) => ((i * 7) % 4 === 0 ? 0 : 1))
const onnxAttention: [string, FusedCase][] = [
  ['three dims', onnx(['q', 'k', 'v'], flatHeads, { values: flat })],
  ['four dims', onnx(['q', 'k', 'v'], {}, { values: deep })],
  [
    'as many heads of unknown number',
    onnx(
      ['q', 'k', 'v'],
      {},
      {
        values: { q: deep.k, k: deep.k, v: deep.v },
        declared: { q: ['b', 'n', 't', 'h'], k: ['b', 'n', 't', 'h'], v: ['b', 'n', 't', 'h'] },
      },
    ),
  ],
  ['a scale', onnx(['q', 'k', 'v'], { scale: float(0.4) }, { values: deep })],
  ['is_causal', onnx(['q', 'k', 'v'], { ...flatHeads, is_causal: int(1) }, { values: flat })],
  ['is_causal, softcap', onnx(['q', 'k', 'v'], { is_causal: int(1), softcap: float(0.9) }, { values: deep })],
  ...[
    [S, T],
    [1, S, T],
    [4, S, T],
    [B, 1, S, T],
    [B, 4, S, T],
  ].flatMap((dims): [string, FusedCase][] => [
    [
      `a mask of Booleans ${JSON.stringify(dims)}, softcap`,
      onnx(
        ['q', 'k', 'v', 'm'],
        { softcap: float(0.9) },
        {
          values: deep,
          initializers: [booleans('m', flags(dims.reduce((a, b) => a * b)), dims)],
        },
      ),
    ],
    [
      `a mask of numbers ${JSON.stringify(dims)}, is_causal, softcap`,
      onnx(
        ['q', 'k', 'v', 'm'],
        { ...flatHeads, is_causal: int(1), softcap: float(1.1) },
        {
          values: { ...flat, m: numbers(dims, 5) },
        },
      ),
    ],
  ]),
  [
    'a mask of Booleans that the graph computes',
    {
      ...onnx(
        [],
        {},
        {
          values: deep,
          initializers: [
            integers('i', [0, 1, 2, 3, 4]),
            integers('two', [2], []),
            integers('zero', [0]),
            integers('st', [S, T]),
          ],
        },
      ),
      nodes: [
        { opType: 'Greater', inputs: ['i', 'two'], outputs: ['g'] },
        { opType: 'Shape', inputs: ['k'], outputs: ['shape'], attributes: { start: int(2), end: int(3) } },
        { opType: 'Expand', inputs: ['g', 'shape'], outputs: ['e'] },
        { opType: 'Unsqueeze', inputs: ['e', 'zero'], outputs: ['u'] },
        { opType: 'Expand', inputs: ['u', 'st'], outputs: ['m'] },
        one('Attention', ['q', 'k', 'v', 'm']),
      ],
    },
  ],
  ...(
    [
      ['of Booleans', booleans('m', [0, 0, 0, 0, 0, ...flags(15)], [S, T])],
      [
        'of −∞',
        floats('m', { dims: [S, T], data: [...Array(5).fill(-Infinity), ...Array(15).fill(0)] }, true),
      ],
      [
        'of −∞ in one batch',
        floats('m', { dims: [B, 1, S, T], data: [...Array(30).fill(0), ...Array(10).fill(-Infinity)] }, true),
      ],
    ] as const
  ).flatMap(([name, mask]): [string, FusedCase][] =>
    [0, 1].map((isCausal) => [
      `a query without keys by a mask ${name}${isCausal ? ', is_causal' : ''}`,
      onnx(['q', 'k', 'v', 'm'], { is_causal: int(isCausal) }, { values: deep, initializers: [mask] }),
    ]),
  ),
  [
    'nonpad_kv_seqlen and a mask',
    onnx(
      ['q', 'k', 'v', 'm', '', '', 'n'],
      {},
      {
        values: deep,
        initializers: [integers('n', [0, 4]), booleans('m', flags(S * T), [S, T])],
        opset: 24,
      },
    ),
  ],
  [
    'nonpad_kv_seqlen',
    onnx(
      ['q', 'k', 'v', '', '', '', 'n'],
      { is_causal: int(1) },
      { values: deep, initializers: [integers('n', [2, 5])], opset: 24 },
    ),
  ],
  [
    'a cache',
    {
      ...onnx(
        [],
        {},
        {
          values: { ...deep, c: numbers([B, 2, 2, 6], 7), d: numbers([B, 2, 2, 3], 8) },
          outputs: ['y', 'pk', 'pv'],
        },
      ),
      nodes: [
        {
          ...one('Attention', ['q', 'k', 'v', '', 'c', 'd'], { is_causal: int(1) }),
          outputs: ['y', 'pk', 'pv'],
        },
      ],
    },
  ],
]

const rotaryTables = (dims: readonly number[]) => {
  const { data } = numbers(dims, 12, -3, 3)
  return [
    floats('cos', { dims, data: data.map(Math.cos) }, true),
    floats('sin', { dims, data: data.map(Math.sin) }, true),
  ]
}
const microsoftRotary = (
  x: Numbers,
  tableDims: readonly number[],
  positions: ReturnType<typeof integers>,
  attributes: Readonly<Record<string, NewAttribute>> = {},
) =>
  fused(
    'RotaryEmbedding',
    ['x', 'p', 'cos', 'sin'],
    attributes,
    { x },
    { initializers: [positions, ...rotaryTables(tableDims)] },
  )
const ownRotary = (
  x: Numbers,
  tableDims: readonly number[],
  positions: ReturnType<typeof integers> | undefined,
  attributes: Readonly<Record<string, NewAttribute>> = {},
): FusedCase => ({
  ...fused(
    'RotaryEmbedding',
    [],
    {},
    { x },
    {
      opset: 23,
      domains: [],
      initializers: [...(positions ? [positions] : []), ...rotaryTables(tableDims)],
    },
  ),
  nodes: [one('RotaryEmbedding', ['x', 'cos', 'sin', ...(positions ? ['p'] : [])], attributes)],
})
const flatX = numbers([B, S, 3 * 8], 1)
const deepX = numbers([B, 3, S, 8], 1)
const eachPosition = integers('p', [2, 0, 1, 5, 4, 3, 2, 6], [B, S])
const rotary: [string, FusedCase][] = [0, 1].flatMap((interleaved): [string, FusedCase][] => {
  const attributes = { interleaved: int(interleaved) }
  const name = interleaved ? ', interleaved' : ''
  const partial = { ...attributes, rotary_embedding_dim: int(4), num_heads: int(3) }
  return [
    [
      `of com.microsoft, first position${name}`,
      microsoftRotary(flatX, [9, 4], integers('p', [2]), attributes),
    ],
    [
      `of com.microsoft, first position, four dims${name}`,
      microsoftRotary(deepX, [9, 4], integers('p', [2]), attributes),
    ],
    [`of com.microsoft, position_ids${name}`, microsoftRotary(flatX, [9, 4], eachPosition, attributes)],
    [
      `of com.microsoft, position_ids, four dims${name}`,
      microsoftRotary(deepX, [9, 4], eachPosition, attributes),
    ],
    [`of com.microsoft, a part of each head${name}`, microsoftRotary(flatX, [9, 2], eachPosition, partial)],
    [
      `of com.microsoft, a part of each head, four dims${name}`,
      microsoftRotary(deepX, [9, 2], eachPosition, partial),
    ],
    [
      `of com.microsoft with a scale${name}`,
      microsoftRotary(flatX, [9, 4], eachPosition, { ...attributes, scale: float(2) }),
    ],
    [
      `of ONNX, position_ids${name}`,
      ownRotary(flatX, [9, 4], eachPosition, { ...attributes, num_heads: int(3) }),
    ],
    [`of ONNX, position_ids, four dims${name}`, ownRotary(deepX, [9, 4], eachPosition, attributes)],
    [
      `of ONNX, tables for each token${name}`,
      ownRotary(flatX, [B, S, 4], undefined, { ...attributes, num_heads: int(3) }),
    ],
    [`of ONNX, tables for each token, four dims${name}`, ownRotary(deepX, [B, S, 4], undefined, attributes)],
    [
      `of ONNX, a part of each head${name}`,
      ownRotary(deepX, [9, 2], eachPosition, { ...attributes, rotary_embedding_dim: int(4) }),
    ],
  ]
})

const families: [string, [string, FusedCase][]][] = [
  ['MultiHeadAttention', multiHead],
  ['Attention of com.microsoft', attention],
  ['GroupQueryAttention', groupQuery],
  ['Attention of ONNX', onnxAttention],
  ['RotaryEmbedding', rotary],
]

/** The case with names in the place of the numbers of rows and tokens, as exports have them. */
function withOpenDims(testCase: FusedCase): FusedCase {
  const open = (dims: readonly number[]) =>
    dims.map((size, i) =>
      dims.length > 1 && size > 1 && (i === 0 || i === dims.length - 2) ? `size ${size}` : size,
    )
  const declared = Object.fromEntries(
    Object.entries(testCase.inputs).map(([name, { dims }]) => [name, open(dims)]),
  )
  return { ...testCase, declared: { ...declared, ...testCase.declared } }
}

describe.each(families)('%s', (_, all) => {
  const cases = quickOrAllCases(all, (testCase) => all.indexOf(testCase) % 6 === 0)

  test.each(cases)('the unfolded graph equals the fused node: %s', async (_, testCase) => {
    expect(await forwardError(testCase)).toBeLessThan(4e-6)
  })

  test.each(cases)('the gradient equals central differences: %s', async (_, testCase) => {
    expect(await gradientError(withOpenDims(testCase))).toBeLessThan(2e-3)
  })
})

describe('random forms', () => {
  const size = (max: number) => fc.integer({ min: 1, max })
  const ints = (min: number, max: number) => fc.infiniteStream(fc.integer({ min, max }))
  const take = (stream: Iterator<number>, count: number) =>
    Array.from({ length: count }, () => stream.next().value as number)
  const check = <T>(form: fc.Arbitrary<T>, caseOf: (form: T) => FusedCase) =>
    fc.assert(
      fc.asyncProperty(form, async (one) => {
        expect(await forwardError(caseOf(one))).toBeLessThan(1e-5)
      }),
      { numRuns: RUNS_ALL_CASES ? 40 : 4, seed: 5 },
    )

  test('MultiHeadAttention', () =>
    check(
      fc.record({
        sizes: fc.tuple(size(3), size(5), size(6), size(4), size(5), size(5)),
        mask: fc.constantFrom('', '[B]', '[B, T]', '[B, S, T]'),
        bits: ints(0, 1),
        filter: fc.constantFrom(undefined, -3.5),
        scale: fc.constantFrom(undefined, 0.25),
        isCausal: fc.boolean(),
        hasBias: fc.boolean(),
        biasDims: fc.option(fc.tuple(fc.boolean(), fc.boolean())),
      }),
      ({ sizes: [b, s, t, n, h, w], mask, bits, filter, scale, isCausal, hasBias, biasDims }) => {
        // The first key is never left out: a score that is −10000 has only three digits after the point.
        const bit = (count: number) => take(bits, count).map((value, i) => (i % t === 0 ? 1 : value))
        const dims = { '': [], '[B]': [b], '[B, T]': [b, t], '[B, S, T]': [b, s, t] }[mask] ?? []
        const count = dims.reduce((x, y) => x * y, 1)
        const values = mask === '[B]' ? take(bits, b).map((bit) => 1 + bit * (t - 1)) : bit(count)
        return mha(
          ['q', 'k', 'v', hasBias ? 'b' : '', mask && 'm', biasDims ? 'a' : ''],
          {
            num_heads: int(n),
            unidirectional: int(Number(isCausal)),
            ...(scale && { scale: float(scale) }),
            ...(filter && { mask_filter_value: float(filter) }),
          },
          {
            values: {
              q: numbers([b, s, n * h], 1),
              k: numbers([b, t, n * h], 2),
              v: numbers([b, t, n * w], 3),
              ...(hasBias && { b: numbers([n * (2 * h + w)], 4) }),
              ...(biasDims && { a: numbers([biasDims[0] ? b : 1, biasDims[1] ? n : 1, s, t], 5) }),
            },
            initializers: mask ? [int32s('m', values, dims)] : [],
          },
        )
      },
    ))

  test('GroupQueryAttention', () =>
    check(
      fc.record({
        sizes: fc.tuple(size(3), size(6), size(3), size(3), fc.constantFrom(16, 32)),
        window: fc.constantFrom(-1, 1, 2, 3),
        softcap: fc.constantFrom(0, 1.5),
        rotary: fc.constantFrom('', 'halves', 'interleaved'),
        isPacked: fc.boolean(),
        sink: fc.constantFrom('', 'smooth_softmax', 'head_sink'),
        biasDims: fc.option(fc.tuple(fc.boolean(), fc.boolean())),
      }),
      ({ sizes: [b, s, kv, group, h], window, softcap, rotary, isPacked, sink, biasDims }) => {
        const n = kv * group
        return gqa(
          [...(rotary ? ['cos', 'sin'] : ['', '']), '', biasDims ? 'a' : '', sink === 'head_sink' ? 'h' : ''],
          {
            num_heads: int(n),
            kv_num_heads: int(kv),
            local_window_size: int(window),
            softcap: float(softcap),
            do_rotary: int(rotary ? 1 : 0),
            rotary_interleaved: int(rotary === 'interleaved' ? 1 : 0),
            smooth_softmax: int(sink === 'smooth_softmax' ? 1 : 0),
          },
          {
            first: isPacked ? ['q', '', '', '', ''] : ['q', 'k', 'v', '', ''],
            values: {
              q: numbers([b, s, (isPacked ? n + 2 * kv : n) * h], 1),
              ...(!isPacked && { k: numbers([b, s, kv * h], 2), v: numbers([b, s, kv * h], 3) }),
              ...(biasDims && { a: numbers([biasDims[0] ? b : 1, biasDims[1] ? n : 1, s, s], 5) }),
              ...(sink === 'head_sink' && { h: numbers([n], 6) }),
            },
            initializers: [int32s('seqlens', Array(b).fill(s - 1)), int32s('total', [s], [])],
          },
        )
      },
    ))

  test('Attention of ONNX', () =>
    check(
      fc.record({
        sizes: fc.tuple(size(3), size(5), size(6), size(3), size(3), size(5), size(5)),
        hasHeads: fc.boolean(),
        isCausal: fc.boolean(),
        softcap: fc.constantFrom(0, 2),
        mask: fc.option(
          fc.record({ rank: fc.integer({ min: 2, max: 4 }), isBoolean: fc.boolean(), repeats: fc.boolean() }),
        ),
        bits: ints(0, 3),
      }),
      ({ sizes: [b, s, t, kv, group, h, w], hasHeads, isCausal, softcap, mask, bits }) => {
        const n = kv * group
        const shape = (count: number, tokens: number, width: number) =>
          hasHeads ? [b, count, tokens, width] : [b, tokens, count * width]
        const dims = [mask?.repeats ? 1 : b, mask?.repeats ? 1 : n, s, t].slice(4 - (mask?.rank ?? 4))
        const count = dims.reduce((x, y) => x * y, 1)
        return onnx(
          ['q', 'k', 'v', mask ? 'm' : ''],
          {
            ...(!hasHeads && { q_num_heads: int(n), kv_num_heads: int(kv) }),
            is_causal: int(Number(isCausal)),
            softcap: float(softcap),
          },
          {
            values: {
              q: numbers(shape(n, s, h), 1),
              k: numbers(shape(kv, t, h), 2),
              v: numbers(shape(kv, t, w), 3),
              ...(mask && !mask.isBoolean && { m: numbers(dims, 4) }),
            },
            // A query without keys at all gives only zeros, which the comparison rejects, so the first key is always seen.
            initializers: mask?.isBoolean
              ? [
                  booleans(
                    'm',
                    take(bits, count).map((bit, i) => (i % t === 0 || bit > 0 ? 1 : 0)),
                    dims,
                  ),
                ]
              : [],
          },
        )
      },
    ))
})

/** The same with float16 in the place of float32 around the node. */
function inHalf(testCase: FusedCase): FusedCase {
  const [node] = testCase.nodes
  const outputs = node.outputs.filter((name) => name !== '')
  const isFloat = (name: string) =>
    name in testCase.inputs ||
    testCase.initializers?.some((tensor) => tensor.name === name && tensor.dataType === DataType.float)
  const cast = (from: string, to: string, type: number) => ({
    opType: 'Cast',
    inputs: [from],
    outputs: [to],
    attributes: { to: int(type) },
  })
  return {
    ...testCase,
    nodes: [
      ...[...new Set(node.inputs.filter(isFloat))].map((name) => cast(name, `${name}16`, DataType.float16)),
      {
        ...node,
        inputs: node.inputs.map((name) => (isFloat(name) ? `${name}16` : name)),
        outputs: node.outputs.map((name) => name && `${name}16`),
      },
      ...outputs.map((name) => cast(`${name}16`, name, DataType.float)),
    ],
  }
}

test.each(
  families.flatMap(([family, cases]) =>
    cases
      .filter(([name], i) => i === 0 || /scale|rotary|mask of numbers|position_ids$|softcap$/.test(name))
      .map(([name, testCase]): [string, FusedCase] => [`${family}: ${name}`, inHalf(testCase)]),
  ),
)('the unfolded graph equals the fused node in float16: %s', async (name, testCase) => {
  // Numbers up to 2 have an error of 2⁻¹¹ after one rounding. The q, k and v of `Attention` are up to 8, and are rounded, too.
  expect(await forwardError(testCase)).toBeLessThan((name.startsWith('Attention of com') ? 16 : 4) * 2 ** -10)
})

test('nodes through which no gradient passes stay as they are', () => {
  const [first, second, third] = ['a', 'b', 'c'].map((output, i) => ({
    ...one('MultiHeadAttention', [['q', 'a', 'a'][i], 'k', 'v'], heads, MS),
    outputs: [output],
  }))
  const model = modelOf(mha([], {}, { outputs: ['b', 'c'] }))
  const [node] = model.graph.nodes
  model.graph.replaceNode(node, [first, second, third])
  unfoldFused(model, { active: new Set(['a', 'b', 'c']), seeds: ['a'] })
  expect(model.graph.nodes.filter(({ domain }) => domain === MS).map(({ outputs }) => outputs)).toEqual([
    ['b'],
    ['c'],
  ])
  unfoldFused(model, { active: new Set(['c']), seeds: ['b', 'c'] })
  expect(model.graph.nodes.filter(({ domain }) => domain === MS).map(({ outputs }) => outputs)).toEqual([
    ['b'],
  ])
})

test('layers share their masks', () => {
  const layer = (input: string, output: string) => ({
    ...one('MultiHeadAttention', [input, 'k', 'v', '', 'm'], { ...heads, unidirectional: int(1) }, MS),
    outputs: [output],
  })
  const model = modelOf({
    ...mha([], {}, { initializers: [masks[2][1]] }),
    nodes: [layer('q', 'a'), layer('a', 'y')],
  })
  unfoldFused(model, { active: new Set(['q', 'a', 'y']), seeds: ['y'] })
  const count = (type: string) => model.graph.nodes.filter(({ opType }) => opType === type).length
  expect([count('Softmax'), count('Where'), count('Range')]).toEqual([2, 2, 2])
})

const rejected: [string, FusedCase, RegExp][] = [
  ['an attribute that is not known', mha(['q', 'k', 'v'], { shiny: int(1) }), /has the attribute shiny/],
  [
    'no number of heads',
    { ...mha([]), nodes: [one('MultiHeadAttention', ['q', 'k', 'v'], {}, MS)] },
    /does not have a positive num_heads/,
  ],
  [
    'weights that are not three parts',
    packed(['x', 'w7', 'b'], {}, { initializers: [floats('w7', numbers([D, 7], 1), true)] }),
    /sizes that are not integers/,
  ],
  [
    'a rotated part of unknown size',
    gqa(['cos', 'sin'], { do_rotary: int(1) }, { declared: { q: ['b', 's', 'd'] } }),
    /rotates a part of each head, of a size that the file does not show/,
  ],
  [
    'packed queries, keys and values',
    mha(['q'], {}, { values: { q: numbers([B, S, N, 3, H], 1) } }),
    /packed queries, keys and values/,
  ],
  [
    'packed keys and values',
    mha(['q', 'k'], {}, { values: { q: numbers([B, S, D], 1), k: numbers([B, S, N, 2, H], 2) } }),
    /packed queries, keys and values/,
  ],
  [
    'a shared buffer',
    mha(['q', 'k', 'v', '', '', '', '', '', 'n'], {}, { initializers: [int32s('n', [0])] }),
    /has an input 8; 8 inputs are known/,
  ],
  [
    'scores of MultiHeadAttention',
    {
      ...mha([]),
      nodes: [{ ...one('MultiHeadAttention', ['q', 'k', 'v'], heads, MS), outputs: ['y', '', '', 's'] }],
    },
    /scores as an output \(qk\)/,
  ],
  ['a mask of unknown rank', mha(['q', 'k', 'v', '', 'm']), /needs the number of axes of "m"/],
  ['do_rotary of Attention', packed(['x', 'w', 'b'], { do_rotary: int(1) }), /do_rotary/],
  [
    'a shared buffer of Attention',
    packed(['x', 'w', 'b'], { past_present_share_buffer: int(1) }),
    /past_present_share_buffer/,
  ],
  [
    'a mask of four dims',
    packed(['x', 'w', 'b', 'm'], {}, { initializers: [int32s('m', Array(B * S * S).fill(1), [B, 1, S, S])] }),
    /has a mask of 4 dimensions/,
  ],
  [
    'a quantised cache',
    gqa([], { k_quant_type: { string: 'PER_TENSOR' } }),
    /quantised cache \(k_quant_type is PER_TENSOR\)/,
  ],
  [
    'scores of ONNX',
    {
      ...onnx([]),
      inputs: deep,
      nodes: [{ ...one('Attention', ['q', 'k', 'v']), outputs: ['y', '', '', 's'] }],
    },
    /qk_matmul_output/,
  ],
  ['heads that nothing shows', onnx(['q', 'k', 'v'], {}, { values: flat }), /how many heads/],
]
test.each(rejected)('a form that is not covered is named: %s', (_, testCase, message) => {
  const model = modelOf(testCase)
  const unfold = () =>
    unfoldFused(model, { active: new Set([...Object.keys(testCase.inputs), 'y']), seeds: ['y'] })
  expect(unfold).toThrow(
    expect.objectContaining({ code: 'UNSUPPORTED', message: expect.stringMatching(message) }),
  )
  expect(unfold).toThrow(`"the ${testCase.nodes[0].opType}"`)
})

test.each([
  ['bert-fused', true, 1e-5],
  ['gpt2-fused', false, 1e-5],
  ['bert-half-fused', true, 4e-3],
] as const)('the model %s gives the same after the unfolding', async (name, hasMask, tolerance) => {
  const ids = new Tensor('int64', BigInt64Array.from([5, 7, 2, 11, 3, 9, 1, 4], BigInt), [2, 4])
  const mask = new Tensor('int64', BigInt64Array.from([1, 1, 1, 1, 1, 1, 0, 0], BigInt), [2, 4])
  const feeds = hasMask ? { x: ids, mask } : { x: ids }
  const model = readModel(modelBytes(name))
  const values = model.graph.nodes.flatMap(({ outputs }) => outputs)
  unfoldFused(model, { active: new Set(values), seeds: model.graph.outputs.map((output) => output.name) })
  expect(model.graph.nodes.some((node) => node.opType === 'Attention')).toBe(false)
  const [expected, received] = await Promise.all(
    [modelBytes(name), model.toBytes()].map(async (bytes) => {
      const session = await createSession(bytes)
      const { y } = await session.run(feeds)
      await session.release()
      return y.data as Float32Array
    }),
  )
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  const worst = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - received[i])), 0)
  expect(worst / largest).toBeLessThan(tolerance)
})
