/**
 * An idle branch (a branch without an adapter) keeps the outputs, bit for bit, for all operators that ONNX Runtime fuses with the linear layer. Sizes
 * are fixed and dynamic, and the branch is computed by the native kernel and by the portable function.
 */
import { uniformEntries } from '@fourierft/core'
import {
  attachBranches,
  createModel,
  DataType,
  findLinearLayers,
  joinCoefficients,
  type NewNode,
  readModel,
} from '@fourierft/onnx'
import * as ort from 'onnxruntime-node'
import { describe, expect, test } from 'vitest'
import { registerFourierFTBackend } from './native-backend.js'

const [WIDTH, TOKENS] = [96, 17]

const wave = (length: number, phase: number, scale: number) =>
  Float32Array.from({ length }, (_, i) => scale * Math.sin(1.3 * i + phase))
const constant = (name: string, dims: readonly number[], values: Float32Array) => ({
  name,
  dims,
  dataType: DataType.float,
  data: new Uint8Array(values.buffer),
})
const CONSTANTS = [
  constant('w', [WIDTH, WIDTH], wave(WIDTH * WIDTH, 1, 0.3)),
  ...['b', 'gamma', 'beta'].map((name, i) => constant(name, [WIDTH], wave(WIDTH, i, 0.3))),
  ...Object.entries({
    sqrt2: Math.SQRT2,
    one: 1,
    half: 0.5,
    two: 2,
    quick: 1.702,
    scale: 9.797959,
    eps: 1e-5,
  }).map(([name, value]) => constant(name, [], Float32Array.of(value))),
]

/** A weight of `WIDTH`² 4-bit numbers in blocks of 32. */
const QUANTISED = [
  {
    name: 'w4',
    dims: [WIDTH, WIDTH / 32, 16],
    dataType: DataType.uint8,
    data: Uint8Array.from({ length: (WIDTH * WIDTH) / 2 }, (_, i) => (i * 37) % 256),
  },
  constant('scales', [(WIDTH * WIDTH) / 32], wave((WIDTH * WIDTH) / 32, 1, 0.02).map(Math.abs)),
]

const node = (opType: string, inputs: string[], output: string, attributes = {}): NewNode => ({
  name: opType === 'MatMul' || opType === 'Gemm' ? '/layer/MatMul' : `/${output}`,
  opType,
  inputs,
  outputs: [output],
  attributes,
})
const product = (output: string) => node('MatMul', ['x', 'w'], output)
const withBias = [product('p'), node('Add', ['b', 'p'], 'q')]
const last = { axis: { int: -1 } }
const normalised = node('LayerNormalization', ['z', 'gamma', 'beta'], 'y', last)
const gemm = node('Gemm', ['x', 'w', 'b'], 'q')

const CASES: Record<string, NewNode[]> = {
  'a bias and GELU': [
    ...withBias,
    node('Div', ['q', 'sqrt2'], 'g1'),
    node('Erf', ['g1'], 'g2'),
    node('Add', ['g2', 'one'], 'g3'),
    node('Mul', ['q', 'g3'], 'g4'),
    node('Mul', ['g4', 'half'], 'y'),
  ],
  'a bias, a residual connection and LayerNorm': [...withBias, node('Add', ['q', 'r'], 'z'), normalised],
  'a residual connection and LayerNorm': [product('q'), node('Add', ['r', 'q'], 'z'), normalised],
  'a bias, a residual connection and a LayerNorm of its parts': [
    ...withBias,
    node('Add', ['r', 'q'], 'z'),
    node('ReduceMean', ['z'], 'm', { axes: { ints: [-1] } }),
    node('Sub', ['z', 'm'], 'c'),
    node('Pow', ['c', 'two'], 's'),
    node('ReduceMean', ['s'], 'v', { axes: { ints: [-1] } }),
    node('Add', ['v', 'eps'], 've'),
    node('Sqrt', ['ve'], 'd'),
    node('Div', ['c', 'd'], 'n'),
    node('Mul', ['n', 'gamma'], 'ng'),
    node('Add', ['ng', 'beta'], 'y'),
  ],
  'a bias and a scale': [...withBias, node('Mul', ['q', 'scale'], 'y')],
  'Gemm and Relu': [gemm, node('Relu', ['q'], 'y')],
  'Gemm and Tanh': [gemm, node('Tanh', ['q'], 'y')],
  'Gemm and Sigmoid': [gemm, node('Sigmoid', ['q'], 'y')],
  'a bias and quick GELU': [
    ...withBias,
    node('Mul', ['q', 'quick'], 'g1'),
    node('Sigmoid', ['g1'], 'g2'),
    node('Mul', ['q', 'g2'], 'y'),
  ],
  SiLU: [product('q'), node('Sigmoid', ['q'], 's'), node('Mul', ['q', 's'], 'y')],
  'a bias and softmax': [...withBias, node('Softmax', ['q'], 'y', last)],
  'two layers': [
    ...withBias,
    node('Add', ['q', 'r'], 'z'),
    { ...normalised, outputs: ['h'] },
    { ...product('p2'), name: '/second/MatMul', inputs: ['h', 'w'] },
    node('Add', ['p2', 'b'], 'q2'),
    node('Add', ['q2', 'z'], 'z2'),
    { ...normalised, name: '/last', inputs: ['z2', 'gamma', 'beta'] },
  ],
}

/** Returns the outputs of the model without branches, and with idle branches. */
/** @returns the output of the model, of the attached model, and of the attached model with joined coefficients */
async function outputs(nodes: readonly NewNode[], native: boolean, isDynamic: boolean) {
  registerFourierFTBackend(ort)
  const executionProviders = native ? [{ name: 'fourierft' }] : ['cpu']
  const usedNames = new Set(nodes.flatMap(({ inputs }) => inputs))
  const isMatrix = nodes.some(({ opType }) => opType === 'Gemm')
  const dims = isMatrix ? [TOKENS, WIDTH] : [1, TOKENS, WIDTH]
  const declaredDims = dims.map((size, i) => (isDynamic && i < dims.length - 1 ? `size_${i}` : size))
  const inputs = ['x', 'r'].filter((name) => usedNames.has(name))
  const output = nodes.at(-1)?.outputs[0] as string
  const created = createModel(
    {
      name: 'main',
      nodes,
      inputs: inputs.map((name) => ({ name, dataType: DataType.float, dims: declaredDims })),
      outputs: [{ name: output, dataType: DataType.float, dims: dims.map((_, i) => `out_${i}`) }],
      initializers: [...CONSTANTS, ...QUANTISED].filter(({ name }) => usedNames.has(name)),
    },
    { opset: 17 },
  )
  created.addOpsetImport('com.microsoft', 1)
  const bytes = created.toBytes()
  const model = readModel(bytes)
  const branches = findLinearLayers(model).map((layer, i) => ({
    module: `m.${i}`,
    layer,
    entries: uniformEntries({ shape: [WIDTH, WIDTH], n: 4, seed: i }),
  }))
  const attached = attachBranches(model, branches)
  const feeds: Record<string, ort.Tensor> = Object.fromEntries(
    inputs.map((name, i) => [name, new ort.Tensor('float32', wave(TOKENS * WIDTH, i, 1 + 2 * i), dims)]),
  )
  const idleFeeds = { ...feeds, [attached.rows]: new ort.Tensor('int64', BigInt64Array.of(0n), [1]) }
  const none = new ort.Tensor('float32', new Float32Array(), [0, 4])
  const attachedBytes = model.toBytes()
  const attachedFeeds = Object.fromEntries(Array.from(attached.coefficients.values(), (name) => [name, none]))
  const joined = joinCoefficients(model, attached.coefficients, { isPortable: !native }) ?? []
  const joinedFeeds = Object.fromEntries(
    joined.flatMap(({ values, counts, modules: { length } }) => [
      [values, none],
      [counts, new ort.Tensor('int64', new BigInt64Array(length), [length])],
    ]),
  )
  const results: Float32Array[] = []
  for (const [file, fileFeeds] of [
    [bytes, feeds],
    [attachedBytes, { ...idleFeeds, ...attachedFeeds }],
    [model.toBytes(), { ...idleFeeds, ...joinedFeeds }],
  ] as const) {
    const session = await ort.InferenceSession.create(file, { executionProviders, logSeverityLevel: 3 })
    results.push((await session.run(fileFeeds))[output]?.data as Float32Array)
    await session.release()
  }
  return results as [Float32Array, Float32Array, Float32Array]
}

describe.each([
  { native: true, isDynamic: false },
  { native: true, isDynamic: true },
  { native: false, isDynamic: false },
  { native: false, isDynamic: true },
])('native $native, dynamic sizes $isDynamic', ({ native, isDynamic }) => {
  test.each(Object.entries(CASES))('%s', async (_, nodes) => {
    const [base, ...idle] = await outputs(nodes, native, isDynamic)
    expect(idle).toEqual([base, base])
  })

  // ONNX Runtime fuses the product and the constant (FusedMatMul), and multiplies the sums inside the product by the constant. A branch has to be
  // added between the two, so they cannot be fused.
  test('exception: a product without a bias that a constant scales is rounded once more', async () => {
    const [base, ...idle] = await outputs([product('q'), node('Div', ['q', 'scale'], 'y')], native, isDynamic)
    for (const result of idle)
      for (const [i, value] of base.entries())
        expect(Math.abs(result[i] - value)).toBeLessThanOrEqual(2 * 2 ** -24 * Math.abs(value) + 2 ** -24)
  })

  // If GELU follows a bias, ONNX Runtime adds the bias in the GELU, otherwise in the product. With a branch between bias and GELU, ONNX Runtime adds
  // the bias in the product, which rounds differently with `accuracy_level` 4.
  test.each([
    ['no other operator', [], true],
    ['a bias', [node('Add', ['p', 'b'], 'q')], true],
    [
      'a bias, a residual connection and LayerNorm',
      [node('Add', ['p', 'b'], 'q'), node('Add', ['q', 'x'], 'z'), normalised],
      true,
    ],
    ['SiLU', [node('Sigmoid', ['p'], 's'), node('Mul', ['p', 's'], 'y')], true],
    [
      'exception: a bias and GELU',
      [
        node('Add', ['p', 'b'], 'q'),
        node('Div', ['q', 'sqrt2'], 'g1'),
        node('Erf', ['g1'], 'g2'),
        node('Add', ['g2', 'one'], 'g3'),
        node('Mul', ['q', 'g3'], 'g4'),
        node('Mul', ['g4', 'half'], 'y'),
      ],
      false,
    ],
  ] as const)('4-bit weights of accuracy level 4: %s', async (_, followers, isExact) => {
    const quantised: NewNode = {
      name: '/layer/MatMul',
      opType: 'MatMulNBits',
      domain: 'com.microsoft',
      inputs: ['x', 'w4', 'scales'],
      outputs: ['p'],
      attributes: Object.fromEntries(
        Object.entries({ K: WIDTH, N: WIDTH, bits: 4, block_size: 32, accuracy_level: 4 }).map(
          ([name, int]) => [name, { int }],
        ),
      ),
    }
    const [base, ...idle] = await outputs([quantised, ...followers], native, isDynamic)
    if (isExact) expect(idle).toEqual([base, base])
    // The sum of product and bias is rounded once more. Its absolute value is below 4.
    else
      for (const result of idle)
        for (const [i, value] of base.entries())
          expect(Math.abs(result[i] - value)).toBeLessThan(4 * 2 ** -23)
  })
})
