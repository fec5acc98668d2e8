/**
 * Branches in statically quantised models (QDQ), whose products ONNX Runtime computes with integers. A branch without an adapter keeps the outputs,
 * bit for bit. A branch with an adapter adds ΔW·x in float32: the quantisation of the base does not round or clip ΔW·x.
 */
import { createLayer, referenceForward, uniformEntries } from '@fourierft/core'
import {
  attachBranches,
  createModel,
  DataType,
  detachBranches,
  findLinearLayers,
  type NewNode,
  readModel,
} from '@fourierft/onnx'
import * as ort from 'onnxruntime-node'
import { describe, expect, test } from 'vitest'
import { registerFourierFTBackend } from './native-backend.js'

const [WIDTH, TOKENS, N] = [64, 48, 40]

const constant = (name: string, dims: readonly number[], dataType: number, values: ArrayBufferView) => ({
  name,
  dims,
  dataType,
  data: new Uint8Array(values.buffer as ArrayBuffer),
})
const float = (name: string, dims: readonly number[], ...values: number[]) =>
  constant(name, dims, DataType.float, Float32Array.from(values))
const wave = (length: number, scale: number, phase = 0) =>
  Float32Array.from({ length }, (_, i) => scale * Math.sin(1.3 * i * i + phase))
const bytes = (length: number, phase: number) =>
  Int8Array.from({ length }, (_, i) => 100 * Math.sin(0.7 * i * i + phase))

const CONSTANTS = [
  constant('w1', [WIDTH, WIDTH], DataType.int8, bytes(WIDTH * WIDTH, 1)),
  constant('w2', [WIDTH, WIDTH], DataType.int8, bytes(WIDTH * WIDTH, 2)),
  constant('zero', [], DataType.int8, new Int8Array(1)),
  float('step', [], 0.002),
  constant('b', [WIDTH], DataType.int8, bytes(WIDTH, 3)),
  // The quantisation step of a Gemm's bias is the step of the Gemm's sums.
  constant(
    'bg',
    [WIDTH],
    DataType.int32,
    Int32Array.from(bytes(WIDTH, 4), (value) => 100 * value),
  ),
  float('sg', [], Math.fround(0.0131) * Math.fround(0.002)),
  float('bf', [WIDTH], ...wave(WIDTH, 0.3)),
  float('gamma', [WIDTH], ...wave(WIDTH, 1, 3)),
  // The calibration of activations, which clips larger values.
  constant('middle', [], DataType.uint8, Uint8Array.of(121)),
  float('sx', [], 0.0131),
  float('sy', [], 0.0093),
  // With these steps, every 512th sum of products is halfway between two steps of the output. Floats and integers round such sums differently.
  float('large', [], 0.9),
  float('tied', [], 512 * 0.9 * 0.0131),
  float('huge', [], 20),
]

const node = (opType: string, inputs: string[], output: string, attributes = {}): NewNode => ({
  name: `/${output}/${opType}`,
  opType,
  inputs,
  outputs: [output],
  attributes,
})
/** Returns a Q/DQ pair: quantises the value `input`, and converts the result back to a float, `name`. */
const pair = (input: string, name: string, scale = 'sy'): NewNode[] => [
  node('QuantizeLinear', [input, scale, 'middle'], `${name}.q`),
  node('DequantizeLinear', [`${name}.q`, scale, 'middle'], name),
]
const weight = (name: string) => node('DequantizeLinear', [name, 'step', 'zero'], `${name}.d`)
const last = { axis: { int: -1 } }
const start = [...pair('x', 'xd', 'sx'), weight('w1')]
const first = [...start, node('MatMul', ['xd', 'w1.d'], 'p'), ...pair('p', 'pd')]
const second = (input: string, scale = 'sy') => [
  weight('w2'),
  node('MatMul', [input, 'w2.d'], 'p2'),
  ...pair('p2', 'y', scale),
]

const CASES: Record<string, NewNode[]> = {
  'a product': [...start, node('MatMul', ['xd', 'w1.d'], 'p'), ...pair('p', 'y')],
  'a bias that is a float': [...first, node('Add', ['pd', 'bf'], 'y')],
  'a bias before the quantisation': [
    ...start,
    node('MatMul', ['xd', 'w1.d'], 'p'),
    node('Add', ['p', 'bf'], 'a'),
    ...pair('a', 'y'),
  ],
  'a bias that is quantised': [...first, weight('b'), node('Add', ['pd', 'b.d'], 'a'), ...pair('a', 'y')],
  'Gemm after Gemm': [
    ...start,
    node('DequantizeLinear', ['bg', 'sg'], 'bg.d'),
    node('Gemm', ['xd', 'w1.d', 'bg.d'], 'p'),
    ...pair('p', 'pd'),
    weight('w2'),
    node('Gemm', ['pd', 'w2.d'], 'p2'),
    ...pair('p2', 'y'),
  ],
  'a product after a product': [...first, ...second('pd')],
  'a product after a bias': [
    ...first,
    weight('b'),
    node('Add', ['b.d', 'pd'], 'a'),
    ...pair('a', 'ad'),
    ...second('ad'),
  ],
  'a product after a bias that is a float': [
    ...first,
    node('Add', ['bf', 'pd'], 'a'),
    ...pair('a', 'ad'),
    ...second('ad'),
  ],
  'a quantised residual connection and a product': [
    ...first,
    node('Add', ['xd', 'pd'], 'z'),
    ...pair('z', 'zd'),
    ...second('zd'),
  ],
  'a residual connection and a normalisation': [
    ...first,
    node('Add', ['pd', 'bf'], 'a'),
    node('Add', ['a', 'x'], 'z'),
    node('LayerNormalization', ['z', 'gamma', 'bf'], 'n', last),
    ...pair('n', 'nd'),
    ...second('nd'),
  ],
  'products of activations before a product': [
    ...pair('x', 'xd', 'sx'),
    node('Transpose', ['x'], 't'),
    ...pair('t', 'td', 'sx'),
    node('MatMul', ['xd', 'td'], 's'),
    ...pair('s', 'sd', 'large'),
    node('MatMul', ['sd', 'xd'], 'a'),
    ...pair('a', 'ad', 'tied'),
    ...second('ad', 'huge'),
  ],
  'a float function and a product': [
    ...first,
    node('Tanh', ['pd'], 't'),
    ...pair('t', 'td'),
    ...second('td'),
  ],
}

function attached(nodes: readonly NewNode[], { isDynamic = false, isReplaceable = false } = {}) {
  const usedNames = new Set(nodes.flatMap(({ inputs }) => inputs))
  const dims = isDynamic ? ['tokens', WIDTH] : [TOKENS, WIDTH]
  const original = createModel(
    {
      name: 'main',
      nodes,
      inputs: [{ name: 'x', dataType: DataType.float, dims }],
      outputs: [{ name: 'y', dataType: DataType.float, dims }],
      initializers: CONSTANTS.filter(({ name }) => usedNames.has(name)),
    },
    { opset: 17 },
  ).toBytes()
  const model = readModel(original)
  const entries = uniformEntries({ shape: [WIDTH, WIDTH], n: N, seed: 3 })
  const layers = findLinearLayers(model)
  const modules = layers.map((layer, i) => ({ module: `m.${i}`, layer, entries }))
  const inputs = attachBranches(model, modules, { replaceable: isReplaceable ? modules : [] })
  return { original, model, entries, inputs }
}

const x = () => new ort.Tensor('float32', wave(TOKENS * WIDTH, 1.9), [TOKENS, WIDTH])

async function run(file: Uint8Array, feeds: Record<string, ort.Tensor>, native: boolean) {
  registerFourierFTBackend(ort)
  const executionProviders = native ? [{ name: 'fourierft' }] : ['cpu']
  const session = await ort.InferenceSession.create(file, {
    executionProviders,
    graphOptimizationLevel: 'all',
    logSeverityLevel: 3,
  })
  const results = await session.run(feeds)
  await session.release()
  return Object.fromEntries(Object.entries(results).map(([name, { data }]) => [name, data as Float32Array]))
}

/** Returns the feeds of an attached model without an active adapter. */
function idleFeeds({ inputs }: ReturnType<typeof attached>): Record<string, ort.Tensor> {
  const none = (dims: number[]) => new ort.Tensor('float32', new Float32Array(), dims)
  const rows = () => new ort.Tensor('int64', BigInt64Array.of(0n), [1])
  const feeds = { x: x(), [inputs.rows]: rows() }
  for (const name of inputs.coefficients.values()) Object.assign(feeds, { [name]: none([0, N]) })
  for (const { weight: replacement, bias, rows: ofRows } of inputs.weights.values())
    Object.assign(feeds, {
      [ofRows]: rows(),
      [replacement]: none([0, WIDTH, WIDTH]),
      ...(bias && { [bias]: none([0, WIDTH]) }),
    })
  return feeds
}

describe.each(Object.entries(CASES))('%s', (_, nodes) => {
  test.each([
    { native: true, isDynamic: false },
    { native: true, isDynamic: true },
    { native: false, isDynamic: false },
    { native: false, isDynamic: true },
  ])(
    'without an adapter, the outputs stay the same, bit for bit; native $native, dynamic $isDynamic',
    async ({ native, isDynamic }) => {
      const branched = attached(nodes, { isDynamic })
      const base = (await run(branched.original, { x: x() }, native)).y
      expect(new Set(base).size).toBeGreaterThan(20)
      expect((await run(branched.model.toBytes(), idleFeeds(branched), native)).y).toEqual(base)
    },
  )

  test('without an adapter, replaceable layers give the same outputs, bit for bit', async () => {
    const branched = attached(nodes, { isReplaceable: true })
    expect(branched.inputs.weights.size).toBe(branched.inputs.coefficients.size)
    const base = (await run(branched.original, { x: x() }, true)).y
    expect((await run(branched.model.toBytes(), idleFeeds(branched), true)).y).toEqual(base)
  })

  test.each([true, false])('detaching restores the file byte for byte; replaceable %s', (isReplaceable) => {
    const { original, model } = attached(nodes, { isReplaceable })
    const detached = readModel(model.toBytes())
    detachBranches(detached)
    expect(Buffer.compare(detached.toBytes(), original)).toBe(0)
  })
})

const coefficients = (i: number) => wave(N, 200, i)

/**
 * Returns the largest error of a branch in float32. Δy = Re Σ_l c_l·e^(…)·Σ_k x_k·e^(…) / (d1·d2) has complex numbers. Each of their two parts is a
 * chain of d2 products and sums, then of 2·N; tables, coefficients and the division add 8 roundings. No chain is larger than
 * S = 2·Σ|c|·Σ|x| / (d1·d2), and adding to the base rounds once.
 */
function tolerance(input: Float32Array, c: Float32Array, y: number): number {
  const sum = (values: Float32Array) => values.reduce((total, value) => total + Math.abs(value), 0)
  const largest = (2 * sum(c) * sum(input)) / WIDTH ** 2
  return 2 ** -24 * ((WIDTH + 2 * N + 8) * largest + Math.abs(y))
}

test.each([true, false])(
  'adds ΔW·x also beyond the calibrated range of the file; native %s',
  async (native) => {
    const { original, model, entries, inputs } = attached(CASES['a product'])
    const c = coefficients(0)
    const base = (await run(original, { x: x() }, native)).y
    const feeds = {
      x: x(),
      [inputs.rows]: new ort.Tensor('int64', BigInt64Array.of(0n), [1]),
      [inputs.coefficients.get('m.0') as string]: new ort.Tensor('float32', c, [1, N]),
    }
    const received = (await run(model.toBytes(), feeds, native)).y
    const layer = createLayer({ name: 'm.0', shape: entries.shape, entries, coefficients: c, scaling: 1 })
    const expected = referenceForward([layer], feeds.x.data, Float64Array.from(base))
    for (const [i, value] of expected.entries()) {
      const offset = Math.floor(i / WIDTH) * WIDTH
      const row = feeds.x.data.subarray(offset, offset + WIDTH)
      expect(Math.abs(received[i] - value)).toBeLessThanOrEqual(tolerance(row, c, value))
    }
    const largest = Math.max(...base)
    expect(Math.max(...received)).toBeGreaterThan(2 * largest)
  },
)

test.each(Object.entries(CASES))('%s: each layer outputs base + Δy', async (_, nodes) => {
  const { model, entries, inputs } = attached(nodes)
  const branches = model.graph.nodes.filter(({ domain }) => domain === 'fourierft')
  const values = new Set(branches.flatMap(({ inputs: [input, base], outputs }) => [input, base, ...outputs]))
  for (const name of values)
    if (name !== undefined && name !== 'x' && name !== 'y') model.graph.addOutput({ name })
  const feeds: Record<string, ort.Tensor> = {
    x: x(),
    [inputs.rows]: new ort.Tensor('int64', BigInt64Array.of(0n), [1]),
  }
  for (const [i, name] of [...inputs.coefficients.values()].entries())
    feeds[name] = new ort.Tensor('float32', coefficients(i), [1, N])
  const results = { x: x().data, ...(await run(model.toBytes(), feeds, false)) }
  const floatsOf = (name: string | undefined) => results[name as keyof typeof results]
  expect(branches.length).toBe(inputs.coefficients.size)
  for (const branch of branches) {
    const [input, base, coefficientsInput] = branch.inputs
    const c = feeds[coefficientsInput]?.data as Float32Array
    const layer = createLayer({ name: 'm', shape: entries.shape, entries, coefficients: c, scaling: 1 })
    const received = floatsOf(branch.outputs[0])
    const expected = referenceForward([layer], floatsOf(input), Float64Array.from(floatsOf(base)))
    for (const [i, value] of expected.entries()) {
      const offset = Math.floor(i / WIDTH) * WIDTH
      const row = floatsOf(input).subarray(offset, offset + WIDTH)
      expect(Math.abs(received[i] - value)).toBeLessThanOrEqual(tolerance(row, c, value))
    }
  }
})

test.each(['a product after a product', 'a product after a bias', 'a product after a bias that is a float'])(
  '%s: the second branch reads the sum of the first',
  (name) => {
    const { model } = attached(CASES[name])
    const [first, second] = model.graph.nodes.filter(({ domain }) => domain === 'fourierft')
    expect(second?.inputs[0]).toBe(first?.outputs[0])
  },
)
