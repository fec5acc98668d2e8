/** The gradient of `QuantizeLinear`, which central differences cannot test: rounding passes it straight through, saturation stops it. */
import { Tensor } from 'onnxruntime-node'
import { expect, test } from 'vitest'
import { createSession } from '../../__fixtures__/onnx-runtime.js'
import { createModel } from '../../model/create-model.js'
import type { NewTensor } from '../../model/encode.js'
import { DataType } from '../../model/schema.js'
import { differentiate } from '../differentiate.js'

const float = (...values: number[]): NewTensor => ({
  dims: values.length === 1 ? [] : [values.length],
  dataType: DataType.float,
  data: new Uint8Array(Float32Array.from(values).buffer),
})
const bytes = (dataType: number, ...values: number[]): NewTensor => ({
  dims: values.length === 1 ? [] : [values.length],
  dataType,
  data: Uint8Array.from(values, (value) => value & 255),
})

const CASES = [
  {
    name: 'uint8',
    scale: float(0.5),
    zero: bytes(DataType.uint8, 100),
    // The range is −50 to 77.5, and half a step more.
    x: [-51, -50.3, -50.2, 0, 0.1, 77.7, 77.8, 200],
    isInRange: [0, 0, 1, 1, 1, 1, 0, 0],
  },
  {
    name: 'int8',
    scale: float(0.1),
    zero: bytes(DataType.int8, -28),
    x: [-10.2, -10, 0, 15.5, 15.6, 1, 2, 3],
    isInRange: [0, 1, 1, 1, 0, 1, 1, 1],
  },
  {
    name: 'uint8 without a zero point',
    scale: float(1),
    zero: undefined,
    x: [-1, -0.4, 0, 255.4, 255.6, 1, 2, 3],
    isInRange: [0, 1, 1, 1, 0, 1, 1, 1],
  },
  {
    name: 'int8 with a scale and a zero point for each column',
    scale: float(1, 0.1, 1, 0.1),
    zero: bytes(DataType.int8, 0, 0, 100, 100),
    x: [100, 100, 100, 2, 127.4, 12.7, 27.4, 2.8],
    isInRange: [1, 0, 0, 1, 1, 1, 1, 0],
  },
]

test.each(CASES)('$name', async ({ scale, zero, x, isInRange }) => {
  const dims = [2, 4]
  const pair = ['scale', ...(zero ? ['zero'] : [])]
  const model = createModel(
    {
      name: 'main',
      nodes: [
        {
          opType: 'QuantizeLinear',
          inputs: ['x', ...pair],
          outputs: ['q'],
          attributes: { axis: { int: -1 } },
        },
        {
          opType: 'DequantizeLinear',
          inputs: ['q', ...pair],
          outputs: ['y'],
          attributes: { axis: { int: -1 } },
        },
      ],
      inputs: ['x', 'seed'].map((name) => ({ name, dataType: DataType.float, dims })),
      outputs: [{ name: 'y', dataType: DataType.float, dims }],
      initializers: [{ name: 'scale', ...scale }, ...(zero ? [{ name: 'zero', ...zero }] : [])],
    },
    { opset: 17 },
  )
  const gradient = differentiate(model, { seeds: new Map([['y', 'seed']]), targets: ['x'] }).gradients.get(
    'x',
  ) as string
  model.graph.addOutput({ name: gradient })
  const session = await createSession(model.toBytes())
  const seed = Float32Array.from(x, (_, i) => i + 1)
  const results = await session.run({
    x: new Tensor('float32', Float32Array.from(x), dims),
    seed: new Tensor('float32', seed, dims),
  })
  await session.release()
  for (const [i, value] of seed.entries())
    expect(Number(results[gradient].data[i]), `${i}`).toBeCloseTo(value * isInRange[i], 5)
})

/** Two blocks of 16; the second is padded. */
const [K, N, BLOCK] = [24, 3, 16]

/** The product of the unit matrix with the weight is the weight, in both directions. */
test.each([
  { name: '4 bits', bits: 4, zero: undefined },
  { name: '4 bits with zero points', bits: 4, zero: bytes(DataType.uint8, 0x3a, 0x87, 0xf1) },
  { name: '4 bits with zero points in float32', bits: 4, zero: float(7.5, 8, 3, 0, 1, 15) },
  { name: '8 bits', bits: 8, zero: undefined },
  { name: '8 bits with zero points', bits: 8, zero: bytes(DataType.uint8, 1, 250, 128, 127, 0, 9) },
])(
  'MatMulNBits, $name: the gradient multiplies by the weight that the operator multiplies by',
  async (weight) => {
    const { bits, zero } = weight
    const bytesOfBlock = (BLOCK * bits) / 8
    const packed = Uint8Array.from({ length: N * 2 * bytesOfBlock }, (_, i) => i * 37 + 11)
    const inputs = ['x', 'packed', 'scales', ...(zero ? ['zero'] : [])]
    const attributes = { K: { int: K }, N: { int: N }, bits: { int: bits }, block_size: { int: BLOCK } }
    const model = createModel(
      {
        name: 'main',
        nodes: [{ opType: 'MatMulNBits', domain: 'com.microsoft', inputs, outputs: ['y'], attributes }],
        inputs: [
          { name: 'x', dataType: DataType.float, dims: ['rows', K] },
          { name: 'seed', dataType: DataType.float, dims: ['rows', N] },
        ],
        outputs: [{ name: 'y', dataType: DataType.float, dims: ['rows', N] }],
        initializers: [
          { name: 'packed', dims: [N, 2, bytesOfBlock], dataType: DataType.uint8, data: packed },
          { name: 'scales', ...float(0.5, 1, 0.25, -1, 2, 0.125) },
          ...(zero ? [{ name: 'zero', ...zero }] : []),
        ],
      },
      { opset: 17 },
    )
    model.addOpsetImport('com.microsoft', 1)
    const options = { seeds: new Map([['y', 'seed']]), targets: ['x'] }
    const gradient = differentiate(model, options).gradients.get('x') as string
    model.graph.addOutput({ name: gradient })
    const session = await createSession(model.toBytes())
    const unit = (size: number, columns: number) =>
      Float32Array.from({ length: K * columns }, (_, i) =>
        i % columns === Math.floor(i / columns) ? 1 : 0,
      ).map((value, i) => (Math.floor(i / columns) < size ? value : 0))
    const results = await session.run({
      x: new Tensor('float32', unit(K, K), [K, K]),
      seed: new Tensor('float32', unit(N, N), [K, N]),
    })
    await session.release()
    // Numbers of at most 8 bits times powers of two are exact.
    for (let i = 0; i < K; i++)
      for (let j = 0; j < N; j++) expect(results[gradient].data[j * K + i]).toBe(results.y.data[i * N + j])
  },
)
