/** Reading and replacing the weight and bias of a layer, also with numbers beyond the range of the model's types. */
import { decodeFloats, encodeFloats, type FloatDtype } from '@fourierft/core'
import { describe, expect, test } from 'vitest'
import type { LinearLayer } from '../layers/linear-layer.js'
import { findLinearLayers } from '../layers/linear-layers.js'
import { readLayer } from '../layers/read-layer.js'
import { createModel } from '../model/create-model.js'
import type { NewNode, NewTensor } from '../model/encode.js'
import { DataType } from '../model/schema.js'
import { bakeBranches } from './bake.js'

const [OUT, IN] = [3, 4]
const TYPES: Partial<Record<FloatDtype, number>> = {
  F32: DataType.float,
  F16: DataType.float16,
  BF16: DataType.bfloat16,
}
/** `[out, in]`, exact in each of the types. */
const WEIGHT = Float32Array.from({ length: OUT * IN }, (_, i) => (i - 5) / 4)
const BIAS = Float32Array.of(1, -2, 0.5)
const TRANSPOSED = Float32Array.from(WEIGHT, (_, p) => WEIGHT[(p % OUT) * IN + Math.floor(p / OUT)])

const constant = (
  name: string,
  dims: number[],
  values: Float32Array,
  dtype: FloatDtype = 'F32',
): NewTensor => ({
  name,
  dims,
  dataType: TYPES[dtype] as number,
  data: encodeFloats(values, dtype),
})

function layerOf(nodes: NewNode[], initializers: NewTensor[]) {
  const model = createModel(
    {
      name: 'main',
      nodes,
      initializers,
      inputs: [{ name: 'x', dataType: DataType.float, dims: ['batch', IN] }],
      outputs: [{ name: 'y', dataType: DataType.float, dims: ['batch', OUT] }],
    },
    { opset: 17 },
  )
  const [layer] = findLinearLayers(model) as [LinearLayer]
  return { model, layer }
}

const product = (output: string, weight = 'w'): NewNode => ({
  name: '/head/MatMul',
  opType: 'MatMul',
  inputs: ['x', weight],
  outputs: [output],
})
const sum: NewNode = { opType: 'Add', inputs: ['p', 'b'], outputs: ['y'] }
const cast = (input: string, output: string): NewNode => ({
  opType: 'Cast',
  inputs: [input],
  outputs: [output],
  attributes: { to: { int: DataType.float16 } },
})
const noExternalData = async () => {
  throw new Error('the model has no external data')
}

describe('reading', () => {
  test.each(['F32', 'F16', 'BF16'] as const)(
    'gives the weight and bias of a product in %s',
    async (dtype) => {
      const initializers = [constant('w', [IN, OUT], TRANSPOSED, dtype), constant('b', [OUT], BIAS, dtype)]
      const { layer } = layerOf([product('p'), sum], initializers)
      expect(await readLayer(layer, noExternalData)).toEqual({ weight: WEIGHT, bias: BIAS })
    },
  )

  test('applies the factors of Gemm and transpositions in the graph; the bias may be missing', async () => {
    const attributes = { transB: { int: 1 }, alpha: { float: 2 }, beta: { float: 0.5 } }
    const gemm = { name: '/head/Gemm', opType: 'Gemm', inputs: ['x', 'w', 'b'], outputs: ['y'], attributes }
    const withFactors = layerOf([gemm], [constant('w', [OUT, IN], WEIGHT), constant('b', [OUT], BIAS)])
    expect(await readLayer(withFactors.layer, noExternalData)).toEqual({
      weight: WEIGHT.map((value) => 2 * value),
      bias: BIAS.map((value) => value / 2),
    })
    const transpose: NewNode = { opType: 'Transpose', inputs: ['w'], outputs: ['t'] }
    const transposed = layerOf([transpose, product('y', 't')], [constant('w', [OUT, IN], WEIGHT)])
    expect(await readLayer(transposed.layer, noExternalData)).toEqual({ weight: WEIGHT })
  })

  test('reads external data', async () => {
    const { model, layer } = layerOf([product('y')], [constant('w', [IN, OUT], TRANSPOSED)])
    const bytes = encodeFloats(TRANSPOSED, 'F32')
    model.graph.initializers.get('w')?.setData({ location: 'weights', offset: 8, length: bytes.length })
    const reads: unknown[] = []
    const read = async (...range: [string, number, number]) => {
      reads.push(range)
      return bytes
    }
    expect(await readLayer(layer, read)).toEqual({ weight: WEIGHT })
    expect(reads).toEqual([['weights', 8, bytes.length]])
    await expect(readLayer(layer, async () => bytes.subarray(1))).rejects.toMatchObject({ code: 'IO_ERROR' })
  })

  test('rejects quantised weights, with the name of the layer', async () => {
    const node: NewNode = { opType: 'DequantizeLinear', inputs: ['q', 's'], outputs: ['w'] }
    const q = { name: 'q', dims: [IN, OUT], dataType: DataType.int8, data: new Uint8Array(IN * OUT) }
    const { layer } = layerOf([node, product('y')], [q, constant('s', [], Float32Array.of(1))])
    await expect(readLayer(layer, noExternalData)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(/layer head is quantised.*modulesToSave/),
    })
  })
})

describe('numbers beyond the range of the type', () => {
  const whole = { weight: WEIGHT, bias: Float32Array.of(1, 1e5, 1) }

  test('rejects a bias that becomes infinite in float16, and leaves the model unchanged', async () => {
    const initializers = [constant('w', [IN, OUT], TRANSPOSED, 'F16'), constant('b', [OUT], BIAS, 'F16')]
    const { model, layer } = layerOf([product('p'), sum], initializers)
    const before = model.toBytes()
    await expect(bakeBranches(model, [{ layer, adapters: [], whole }])).rejects.toMatchObject({
      code: 'NOT_FINITE',
      message: expect.stringMatching(/bias.*"b" has 100000 at index 1, beyond the range of F16/),
      details: { tensor: 'b' },
    })
    expect(model.toBytes()).toEqual(before)
  })

  test('accepts the bias in float32 and bfloat16', async () => {
    for (const dtype of ['F32', 'BF16'] as const) {
      const initializers = [constant('w', [IN, OUT], TRANSPOSED, dtype), constant('b', [OUT], BIAS, dtype)]
      const { model, layer } = layerOf([product('p'), sum], initializers)
      await bakeBranches(model, [{ layer, adapters: [], whole }])
      const bytes = model.graph.initializers.get('b')?.data() as Uint8Array
      expect(decodeFloats({ dtype, bytes })[1]).toBeCloseTo(1e5, -3)
    }
  })

  test('rejects a float32 weight that becomes infinite in a cast to float16', async () => {
    const { model, layer } = layerOf(
      [cast('w', 'h'), product('y', 'h')],
      [constant('w', [IN, OUT], TRANSPOSED)],
    )
    const large = WEIGHT.map((value, i) => (i === 2 ? 1e5 : value))
    await expect(
      bakeBranches(model, [{ layer, adapters: [], whole: { weight: large } }]),
    ).rejects.toMatchObject({
      code: 'NOT_FINITE',
      message: expect.stringContaining('beyond the range of F16'),
    })
  })
})
