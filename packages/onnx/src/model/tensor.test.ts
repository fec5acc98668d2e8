/** The numbers of tensors of any type, at any alignment, and in each of the forms in which a file stores them. */
import { FourierFTError } from '@fourierft/core'
import { describe, expect, test } from 'vitest'
import { findPackedLayers } from '../layers/packed-layers.js'
import { createModel } from './create-model.js'
import { encodeGraph, type NewTensor } from './encode.js'
import { type ModelData, readModel } from './model.js'
import { DataType, Model, Tensor } from './schema.js'
import { integersOf } from './tensor.js'
import { field, message, type WireField } from './wire-message.js'

/** A product before a `Split` into three parts of the given sizes. `pad` moves the bytes after the graph's name. */
function split(sizes: Omit<NewTensor, 'name'>, pad = ''): Uint8Array {
  const value = (name: string) => ({ name, dataType: DataType.float, dims: [1, 't', 4] })
  return createModel(
    {
      name: `main${pad}`,
      nodes: [
        { name: '/a/qkv/MatMul', opType: 'MatMul', inputs: ['x', 'w'], outputs: ['y'] },
        {
          opType: 'Split',
          inputs: ['y', 's'],
          outputs: ['q', 'k', 'v'],
          attributes: { axis: { int: -1 } },
        },
      ],
      inputs: [value('x')],
      outputs: ['q', 'k', 'v'].map(value),
      initializers: [
        { name: 'w', dims: [4, 12], dataType: DataType.float, data: new Uint8Array(192) },
        { ...sizes, name: 's' },
      ],
    },
    { opset: 17 },
  ).toBytes()
}

const int64 = (...values: number[]) => ({
  dims: [values.length],
  dataType: DataType.int64,
  data: new Uint8Array(BigInt64Array.from(values, BigInt).buffer),
})
const partsOf = (data: ModelData) => findPackedLayers(readModel(data)).map(({ module }) => module)

describe('sizes of a Split', () => {
  test.each(['', '.', '..', '...', '....', '.....', '......', '.......'])(
    'are read from a Buffer at any alignment (%j)',
    (pad) => {
      const bytes = split(int64(2, 4, 6), pad)
      // Buffers of Node's pool start at any offset.
      for (const offset of [0, 1, 3, 8]) {
        const pool = Buffer.alloc(bytes.length + offset)
        pool.set(bytes, offset)
        const layers = findPackedLayers(readModel(pool.subarray(offset)))
        expect(layers.map(({ outFeatures }) => outFeatures)).toEqual([2, 4, 6])
      }
    },
  )

  test('are read from an ArrayBuffer and from shared memory', () => {
    const bytes = split(int64(4, 4, 4))
    const shared = new SharedArrayBuffer(bytes.length)
    new Uint8Array(shared).set(bytes)
    for (const data of [bytes.slice().buffer, shared]) {
      expect(partsOf(data)).toEqual(['a.q', 'a.k', 'a.v'])
      expect(readModel(data).toBytes()).toEqual(bytes)
    }
  })

  test.each([
    ['uint8', DataType.uint8, Uint8Array.of(4, 4, 4)],
    ['uint16', DataType.uint16, Uint16Array.of(4, 4, 4)],
    ['int32', DataType.int32, Int32Array.of(4, 4, 4)],
    ['uint64', DataType.uint64, BigUint64Array.of(4n, 4n, 4n)],
  ])('of type %s are read', (_, dataType, { buffer }) => {
    expect(partsOf(split({ dims: [3], dataType, data: new Uint8Array(buffer) }))).toEqual([
      'a.q',
      'a.k',
      'a.v',
    ])
  })

  test.each([
    ['floats', { dims: [3], dataType: DataType.float, data: new Uint8Array(12) }],
    ['zeros of int32', { dims: [3], dataType: DataType.int32, data: new Uint8Array(12) }],
    ['only two', int64(6, 6)],
    ['four', int64(3, 3, 3, 3)],
    ['larger than the whole', int64(4, 4, 5)],
    ['negative', int64(-4, 12, 4)],
  ])('that are %s give no parts', (_, sizes) => expect(partsOf(split(sizes))).toEqual([]))

  test('of an unknown type give no parts', () => {
    const bytes = split({ dims: [3], dataType: DataType.int32, data: new Uint8Array(12) })
    // The type of the last tensor comes after its dims.
    const offset = Buffer.from(bytes).lastIndexOf(Buffer.from([8, 3, 16, DataType.int32]))
    bytes[offset + 3] = 99
    expect(partsOf(bytes)).toEqual([])
  })
})

/** Returns a tensor with these fields, read from a model. */
function tensorOf(...fields: WireField[]) {
  const graph = encodeGraph({ name: 'g', nodes: [], outputs: [] })
  graph.insert([field(5, message(field(Tensor.name, 't'), ...fields))])
  const parts: Uint8Array[] = []
  message(field(Model.irVersion, 8), field(Model.graph, graph)).writeTo(parts)
  const tensor = readModel(Buffer.concat(parts)).graph.initializers.get('t')
  if (!tensor) throw new Error('the model has no tensor')
  return tensor
}
const dims = (...sizes: number[]) => sizes.map((size) => field(Tensor.dims, size))

describe('integers in a list', () => {
  const values = [0, 1, -1, 127, 128, -129, 2 ** 31 - 1, -(2 ** 31)]

  test('int64 are read', () => {
    const large = [...values, 2 ** 53, -(2 ** 53)]
    const stored = tensorOf(
      ...dims(large.length),
      field(Tensor.dataType, DataType.int64),
      ...large.map((value) => field(Tensor.int64Data, value)),
    )
    expect(integersOf(stored)).toEqual(large)
  })

  test.each([
    ['int32', DataType.int32, values],
    ['int16', DataType.int16, [0, -1, 32767, -32768]],
    ['uint8', DataType.uint8, [0, 255, 127]],
    ['int8', DataType.int8, [0, -1, -128]],
  ])('%s are read', (_, dataType, stored) => {
    const fields = stored.map((value) => field(Tensor.int32Data, value))
    expect(integersOf(tensorOf(...dims(stored.length), field(Tensor.dataType, dataType), ...fields))).toEqual(
      stored,
    )
  })

  test('rejects a last integer without an end', () => {
    const broken = field(Tensor.int64Data, new Uint8Array([1, 128]))
    const stored = tensorOf(...dims(1), field(Tensor.dataType, DataType.int64), broken)
    expect(() => stored.data()).toThrow(FourierFTError)
  })

  test('rejects dims of another length before it allocates memory', () => {
    const many = field(Tensor.int64Data, new Uint8Array(1000))
    const stored = tensorOf(...dims(3), field(Tensor.dataType, DataType.int64), many)
    expect(() => stored.data()).toThrow(/tensor "t".*take 24 bytes, but 8000 are stored/)
  })
})

test('rejects 65 dims', () => {
  const packed = field(Tensor.dims, new Uint8Array(65).fill(1))
  expect(() => tensorOf(packed)).toThrow(/tensor "t" of the model .* has 65 dims/)
})
