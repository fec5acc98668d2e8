/**
 * An adapter for each row, in layers whose input has the batch in another axis than the first. If the input of a layer has no batch axis, or the axis
 * is unknown, several adapters in one batch are rejected, and one adapter for all rows works.
 */
import {
  Adapter,
  createAdapter,
  createConfig,
  createLayer,
  encodeFloats,
  referenceForward,
  savedTensor,
} from '@fourierft/core'
import {
  attachBranches,
  createModel,
  DataType,
  detachBranches,
  findLinearLayers,
  type LinearLayer,
  type NewNode,
  type NewTensor,
  readModel,
} from '@fourierft/onnx'
import * as ort from 'onnxruntime-node'
import { afterEach, describe, expect, test } from 'vitest'
import type { AdaptedSession } from './adapted-session.js'
import { createSession } from './create-session.js'

const [ROWS, TOKENS, IN, OUT] = [3, 5, 4, 6]
const sines = (length: number, phase: number) =>
  Float32Array.from({ length }, (_, i) => Math.sin(1.3 * i + phase))
/** The weight, `[in, out]`. */
const weight = sines(IN * OUT, 1)
const table = sines(2 * IN, 2)
const x = sines(ROWS * TOKENS * IN, 3)

const floats = (name: string, dims: readonly number[], values: Float32Array): NewTensor => ({
  name,
  dims,
  dataType: DataType.float,
  data: new Uint8Array(values.slice().buffer),
})
const integers = (name: string, values: readonly number[]): NewTensor => ({
  name,
  dims: [values.length],
  dataType: DataType.int64,
  data: new Uint8Array(BigInt64Array.from(values, BigInt).buffer),
})

const SWAP = { perm: { ints: [1, 0, 2] } }
const product = (input: string, output: string, call = ''): NewNode => ({
  name: `/block/proj${call}/MatMul`,
  opType: 'MatMul',
  inputs: [input, 'w'],
  outputs: [output],
})

/** The nodes of each model, from x [batch, tokens, IN] to y [batch, tokens, OUT]. */
const MODELS: Readonly<Record<string, readonly NewNode[]>> = {
  'tokens first': [
    { opType: 'Transpose', inputs: ['x'], outputs: ['t'], attributes: SWAP },
    product('t', 'u'),
    { opType: 'Transpose', inputs: ['u'], outputs: ['y'], attributes: SWAP },
  ],
  'tokens first, in one axis with the batch': [
    { opType: 'Transpose', inputs: ['x'], outputs: ['t'], attributes: SWAP },
    { opType: 'Reshape', inputs: ['t', 'flat'], outputs: ['f'] },
    product('f', 'u'),
    { opType: 'Shape', inputs: ['t'], outputs: ['s'] },
    { opType: 'Slice', inputs: ['s', 'zero', 'two'], outputs: ['head'] },
    { opType: 'Concat', inputs: ['head', 'rest'], outputs: ['shape'], attributes: { axis: { int: 0 } } },
    { opType: 'Reshape', inputs: ['u', 'shape'], outputs: ['v'] },
    { opType: 'Transpose', inputs: ['v'], outputs: ['y'], attributes: SWAP },
  ],
  'padded tokens first, in one axis with the batch': [
    { opType: 'Slice', inputs: ['x', 'zero', 'two', 'one'], outputs: ['p'] },
    { opType: 'Concat', inputs: ['x', 'p'], outputs: ['xp'], attributes: { axis: { int: 1 } } },
    { opType: 'Transpose', inputs: ['xp'], outputs: ['t'], attributes: SWAP },
    { opType: 'Reshape', inputs: ['t', 'flat'], outputs: ['f'] },
    product('f', 'u'),
    { opType: 'Shape', inputs: ['t'], outputs: ['s'] },
    { opType: 'Slice', inputs: ['s', 'zero', 'two'], outputs: ['head'] },
    { opType: 'Concat', inputs: ['head', 'rest'], outputs: ['shape'], attributes: { axis: { int: 0 } } },
    { opType: 'Reshape', inputs: ['u', 'shape'], outputs: ['v'] },
    { opType: 'Slice', inputs: ['v', 'zero', 'less'], outputs: ['c'] },
    { opType: 'Transpose', inputs: ['c'], outputs: ['y'], attributes: SWAP },
  ],
  'an input without rows': [
    product('table', 'k'),
    { opType: 'ReduceSum', inputs: ['k', 'zero'], outputs: ['sum'] },
    product('x', 'u', '_1'),
    { opType: 'Add', inputs: ['u', 'sum'], outputs: ['y'] },
  ],
  'an unknown batch axis': [
    { opType: 'Reshape', inputs: ['x', 'flat'], outputs: ['f'] },
    { opType: 'Compress', inputs: ['f', 'all'], outputs: ['t'], attributes: { axis: { int: 0 } } },
    product('t', 'u'),
    { opType: 'Shape', inputs: ['x'], outputs: ['s'] },
    { opType: 'Slice', inputs: ['s', 'zero', 'two'], outputs: ['head'] },
    { opType: 'Concat', inputs: ['head', 'rest'], outputs: ['shape'], attributes: { axis: { int: 0 } } },
    { opType: 'Reshape', inputs: ['u', 'shape'], outputs: ['y'] },
  ],
}

function modelOf(name: string, batch: 'batch' | number = 'batch'): Uint8Array {
  const nodes = MODELS[name]
  const graph = {
    name: 'main_graph',
    inputs: [{ name: 'x', dataType: DataType.float, dims: [batch, 'tokens', IN] }],
    outputs: [{ name: 'y', dataType: DataType.float, dims: [batch, 'tokens', OUT] }],
    initializers: [
      floats('w', [IN, OUT], weight),
      floats('table', [2, IN], table),
      integers('flat', [-1, IN]),
      integers('zero', [0]),
      integers('two', [2]),
      integers('rest', [-1]),
      integers('one', [1]),
      integers('less', [-2]),
      {
        name: 'all',
        dims: [ROWS * TOKENS],
        dataType: DataType.bool,
        data: new Uint8Array(ROWS * TOKENS).fill(1),
      },
    ].filter((tensor) => nodes.some(({ inputs }) => inputs.includes(tensor.name ?? ''))),
    nodes,
  }
  return createModel(graph, { opset: 17 }).toBytes()
}

/** The models in which every layer's rows are known. */
const KNOWN_ROWS = [
  'tokens first',
  'tokens first, in one axis with the batch',
  'padded tokens first, in one axis with the batch',
]

const config = createConfig({ nFrequency: 8, scaling: 30, initWeights: false })
const adapters = new Map<string | null, Adapter>(
  ['a', 'b'].map((name, i) => [
    name,
    createAdapter(config, { 'block.proj': [OUT, IN] }, { initialSeed: i + 1 }),
  ]),
)

/** Returns the outputs in float64, without the sum over the table. */
function expected(rows: readonly (string | null)[]): number[] {
  return rows.flatMap((name, r) => {
    const rowX = Float64Array.from(x.subarray(r * TOKENS * IN, (r + 1) * TOKENS * IN))
    const base = Float64Array.from({ length: TOKENS * OUT }, (_, i) => {
      const [t, o] = [Math.floor(i / OUT), i % OUT]
      return [...rowX.subarray(t * IN, (t + 1) * IN)].reduce(
        (sum, value, k) => sum + value * weight[k * OUT + o],
        0,
      )
    })
    const adapter = adapters.get(name)
    return [...(adapter ? referenceForward([createLayer(adapter.layer('block.proj'))], rowX, base) : base)]
  })
}

const open: AdaptedSession[] = []
async function sessionOf(model: Uint8Array, native: boolean): Promise<AdaptedSession> {
  const session = await createSession(model, { native })
  open.push(session)
  for (const [name, adapter] of adapters) await session.loadAdapter(adapter, { name: name as string })
  return session
}
afterEach(async () => {
  for (const session of open.splice(0)) await session.release()
})

async function run(session: AdaptedSession, rows?: readonly (string | null)[]): Promise<Float32Array> {
  const { y } = await session.run(
    { x: new ort.Tensor('float32', x, [ROWS, TOKENS, IN]) },
    rows ? { adapters: rows } : {},
  )
  return y?.data as Float32Array
}

function expectNear(received: Float32Array, expectedValues: readonly number[]): void {
  // 4 products, and 8 coefficients with a real and an imaginary part. Each is rounded by 2⁻²⁴ of the largest value, and so is each sum.
  const limit = 2 * (4 + 2 * 8) * 2 ** -24 * Math.max(...expectedValues.map(Math.abs))
  expect(received).toHaveLength(expectedValues.length)
  for (const [i, value] of expectedValues.entries()) expect(Math.abs(received[i] - value)).toBeLessThan(limit)
}

describe.each([true, false])('native %s', (native) => {
  test.each(KNOWN_ROWS)('%s: applies an adapter for each row', async (name) => {
    const session = await sessionOf(modelOf(name), native)
    for (const rows of [
      ['a', 'b', 'a'],
      ['b', null, 'a'],
      [null, 'b', 'b'],
      ['a', 'a', 'a'],
    ])
      expectNear(await run(session, rows), expected(rows))
    expectNear(await run(session), expected(['a', 'a', 'a']))
    session.disableAdapters()
    expectNear(await run(session), expected([null, null, null]))
  })

  test.each(KNOWN_ROWS)('%s: applies an adapter for each row of a fixed batch size', async (name) => {
    const session = await sessionOf(modelOf(name, ROWS), native)
    const rows = ['b', 'a', null]
    expectNear(await run(session, rows), expected(rows))
  })

  test.each([
    ['an input without rows', 'has the same input for all rows of the batch (node /block/proj/MatMul)'],
    ['an unknown batch axis', 'does not show where its rows are (node /block/proj/MatMul)'],
  ])('%s: rejects several adapters, naming the layer; applies one adapter', async (name, reason) => {
    const session = await sessionOf(modelOf(name), native)
    const withA = await run(session)
    await expect(run(session, ['a', 'b', 'a'])).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      details: { module: 'block.proj' },
      message: expect.stringContaining(`module block.proj, which adapter 'a' changes, ${reason}`),
    })
    await expect(run(session, ['b', 'b', null])).rejects.toMatchObject({ code: 'UNSUPPORTED' })
    expect(await run(session, ['a', 'a', 'a'])).toEqual(withA)
    expect(await run(session, [null, null, null])).not.toEqual(withA)
    if (name === 'an unknown batch axis') expectNear(withA, expected(['a', 'a', 'a']))
  })
})

describe('layers that adapters replace', () => {
  const heads = new Map(
    [4, 5].map((phase, i) => {
      const bytes = encodeFloats(sines(OUT * IN, phase), 'F32')
      const savedTensors = new Map([
        [savedTensor('block.proj', 'weight'), { dtype: 'F32' as const, shape: [OUT, IN], bytes }],
      ])
      const ofHead = createConfig({ targetModules: ['absent'], modulesToSave: ['proj'] })
      return [['c', 'd'][i] as string, new Adapter({ config: ofHead, modules: new Map(), savedTensors })]
    }),
  )
  async function sessionWithHeads(name: string): Promise<AdaptedSession> {
    const session = await createSession(modelOf(name), { native: false })
    open.push(session)
    for (const [head, adapter] of heads) await session.loadAdapter(adapter, { name: head })
    return session
  }

  test.each(KNOWN_ROWS)('%s: each row has its own', async (name) => {
    const session = await sessionWithHeads(name)
    const alone = new Map<string | null, Float32Array>()
    for (const head of ['c', 'd', null]) alone.set(head, await run(session, [head]))
    expectNear(alone.get(null) as Float32Array, expected([null, null, null]))
    for (const rows of [
      ['c', 'd', 'c'],
      ['d', null, 'c'],
      [null, 'd', null],
    ]) {
      const size = TOKENS * OUT
      const values = rows.flatMap((head, r) => [
        ...(alone.get(head) as Float32Array).subarray(r * size, (r + 1) * size),
      ])
      expectNear(await run(session, rows), values)
    }
    expect(await run(session, ['c', 'c', 'c'])).toEqual(alone.get('c'))
    if (name === 'tokens first') {
      const none = { x: new ort.Tensor('float32', [], [0, TOKENS, IN]) }
      const { y } = await session.run(none, { adapters: ['c', 'd', null] })
      expect(y?.dims).toEqual([0, TOKENS, OUT])
    }
    expect(alone.get('c')).not.toEqual(alone.get('d'))
  })

  test.each([
    ['an input without rows', 'has the same input for all rows of the batch (node /block/proj/MatMul)'],
    ['an unknown batch axis', 'does not show where its rows are (node /block/proj/MatMul)'],
  ])('%s: rejects several, naming the layer; applies one', async (name, reason) => {
    const session = await sessionWithHeads(name)
    const withC = await run(session)
    await expect(run(session, [null, 'd', 'c'])).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      details: { module: 'block.proj' },
      message: expect.stringContaining(`module block.proj, which adapter 'd' changes, ${reason}`),
    })
    expect(await run(session, ['c', 'c', 'c'])).toEqual(withC)
    expect(await run(session, ['d', 'd', 'd'])).not.toEqual(withC)
  })
})

test.each(KNOWN_ROWS)('%s: detaching restores the file byte for byte', (name) => {
  const bytes = modelOf(name)
  const model = readModel(bytes)
  const layer = findLinearLayers(model).find(({ module }) => module === 'block.proj') as LinearLayer
  const { entries } = (adapters.get('a') as Adapter).layer('block.proj')
  const { rowless } = attachBranches(model, [{ module: 'block.proj', layer, entries }])
  expect([...rowless]).toEqual([])
  const detached = readModel(model.toBytes())
  detachBranches(detached)
  expect(detached.toBytes()).toEqual(bytes)
})

test('uses the axis that is named batch', async () => {
  const nodes = [product('x', 'y')]
  const graph = {
    name: 'main_graph',
    inputs: [{ name: 'x', dataType: DataType.float, dims: ['tokens', 'batch', IN] }],
    outputs: [{ name: 'y', dataType: DataType.float, dims: ['tokens', 'batch', OUT] }],
    initializers: [floats('w', [IN, OUT], weight)],
    nodes,
  }
  const session = await sessionOf(createModel(graph, { opset: 17 }).toBytes(), false)
  const feeds = { x: new ort.Tensor('float32', x, [TOKENS, ROWS, IN]) }
  await expect(session.run(feeds, { adapters: ['a', 'b', 'a', 'b', 'a'] })).rejects.toMatchObject({
    code: 'INVALID_OPTION',
    message: expect.stringContaining('the batch has 3 rows'),
  })
  const { y } = await session.run(feeds, { adapters: ['a', 'b', null] })
  const outputs = await Promise.all(
    ['a', 'b', null].map((name) => session.run(feeds, { adapters: [name, name, name] })),
  )
  const expectedRows = Array.from({ length: TOKENS * ROWS * OUT }, (_, i) => {
    const data = outputs[Math.floor(i / OUT) % ROWS]?.y?.data as Float32Array
    return data[i]
  })
  expect(Array.from(y?.data as Float32Array)).toEqual(expectedRows)
})
