/** Every datatype, in JSON and as binary data, in and out. */
import { describe, expect, test } from 'vitest'
import type { Datatype, NumberArray } from './datatypes.js'
import { decodeBytes, decodeNumbers, divideBody, type InputTensor } from './decode-inputs.js'
import { encodeResponse, type OutputTensor } from './encode-response.js'
import { parseInferRequest } from './infer-request.js'
import { HEADER_LENGTH } from './read-body.js'

function fromJson(datatype: Datatype, data: readonly unknown[], shape = [data.length]): InputTensor {
  const request = parseInferRequest({ inputs: [{ name: 'x', datatype, shape, data }] })
  return divideBody(request, undefined)[0] as InputTensor
}

function fromBinary(datatype: Datatype, bytes: Uint8Array<ArrayBuffer>, shape: number[]): InputTensor {
  const parameters = { binary_data_size: bytes.length }
  const request = parseInferRequest({ inputs: [{ name: 'x', datatype, shape, parameters }] })
  // One byte before it, so that the elements are not aligned.
  const body = new Uint8Array(bytes.length + 1)
  body.set(bytes, 1)
  return divideBody(request, body.subarray(1))[0] as InputTensor
}

const SAFE = Number.MAX_SAFE_INTEGER
const CASES: [datatype: Datatype, json: unknown[], array: NumberArray][] = [
  ['BOOL', [true, false], Uint8Array.of(1, 0)],
  ['UINT8', [0, 255], Uint8Array.of(0, 255)],
  ['UINT16', [0, 65535], Uint16Array.of(0, 65535)],
  ['UINT32', [0, 2 ** 32 - 1], Uint32Array.of(0, 2 ** 32 - 1)],
  ['UINT64', [0, SAFE], BigUint64Array.of(0n, BigInt(SAFE))],
  ['INT8', [-128, 127], Int8Array.of(-128, 127)],
  ['INT16', [-32768, 32767], Int16Array.of(-32768, 32767)],
  ['INT32', [-(2 ** 31), 2 ** 31 - 1], Int32Array.of(-(2 ** 31), 2 ** 31 - 1)],
  ['INT64', [-SAFE, SAFE], BigInt64Array.of(BigInt(-SAFE), BigInt(SAFE))],
  ['FP16', [1.5, -65504], Uint16Array.of(0x3e00, 0xfbff)],
  ['FP32', [0.10000000149011612, -3.4028234663852886e38], Float32Array.of(0.1, -3.4028234663852886e38)],
  ['FP64', [0.1, 1e300], Float64Array.of(0.1, 1e300)],
]

describe.each(CASES)('%s', (datatype, json, array) => {
  const bytes = new Uint8Array(array.buffer as ArrayBuffer)
  const output: OutputTensor = { name: 'y', datatype, shape: [2], data: array }
  const answer = (parameters: object) => {
    const inputs = [{ name: 'x', datatype: 'BOOL', shape: [0], data: [] }]
    return encodeResponse('model', parseInferRequest({ inputs, parameters }), [output])
  }

  test('is read from JSON, flat and nested, and from binary data', () => {
    expect(decodeNumbers(fromJson(datatype, json))).toEqual(array)
    expect(decodeNumbers(fromJson(datatype, [json], [1, 2]))).toEqual(array)
    expect(decodeNumbers(fromBinary(datatype, bytes, [2, 1]))).toEqual(array)
  })

  test('is written as JSON and as binary data', async () => {
    expect((await answer({}).json()).outputs).toEqual([{ name: 'y', datatype, shape: [2], data: json }])
    const response = answer({ binary_data_output: true })
    const body = new Uint8Array(await response.arrayBuffer())
    const length = Number(response.headers.get(HEADER_LENGTH))
    expect(body.subarray(length)).toEqual(bytes)
    expect(JSON.parse(new TextDecoder().decode(body.subarray(0, length))).outputs).toEqual([
      { name: 'y', datatype, shape: [2], parameters: { binary_data_size: bytes.length } },
    ])
  })

  test('has elements of its own kind, as many as its shape says', () => {
    const wrong = datatype === 'BOOL' ? 1 : 'text'
    expect(() => decodeNumbers(fromJson(datatype, [wrong]))).toThrow(
      /^x: expected .* received a (number|string)$/,
    )
    expect(() => decodeNumbers(fromJson(datatype, json, [3]))).toThrow('needs 3 elements; received 2')
    expect(() => decodeNumbers(fromBinary(datatype, bytes, [3]))).toThrow('bytes; received')
    expect(() => decodeNumbers(fromJson(datatype, [json, json], [4]))).toThrow('needs 4 elements')
  })
})

test.each([
  ['UINT8', 256],
  ['UINT8', -1],
  ['INT8', 128],
  ['UINT32', 2 ** 32],
  ['INT32', -(2 ** 31) - 1],
  ['UINT64', -1],
  ['UINT64', 2 ** 64],
  ['INT64', 2 ** 63],
  ['FP16', 65520],
  ['FP32', 1e39],
] as const)('%s does not hold %d', (datatype, value) => {
  expect(() => decodeNumbers(fromJson(datatype, [value]))).toThrow('outside the range of the datatype')
})

test('integers that JSON has rounded are rejected, and binary ones are exact', async () => {
  const data = JSON.parse('[9007199254740993]')
  expect(() => decodeNumbers(fromJson('INT64', data))).toThrow('not exact in JSON')
  const exact = BigInt64Array.of(2n ** 53n + 1n, -(2n ** 63n))
  expect(decodeNumbers(fromBinary('INT64', new Uint8Array(exact.buffer), [2]))).toEqual(exact)
  const request = parseInferRequest({ inputs: [{ name: 'x', datatype: 'INT64', shape: [0], data: [] }] })
  const response = encodeResponse('m', request, [{ name: 'y', datatype: 'INT64', shape: [2], data: exact }])
  expect(await response.text()).toContain('"data":[9007199254740993,-9223372036854775808]')
})

test('numbers that JSON does not have need binary data', () => {
  const request = parseInferRequest({ inputs: [{ name: 'x', datatype: 'FP32', shape: [0], data: [] }] })
  for (const output of [
    { name: 'y', datatype: 'FP32', shape: [1], data: Float32Array.of(Number.NaN) },
    { name: 'y', datatype: 'FP16', shape: [1], data: Uint16Array.of(0x7c00) },
  ] as const) {
    expect(() => encodeResponse('m', request, [output])).toThrow('ask for it with binary_data')
  }
})

test('booleans in binary data are 0 or 1, and BF16 is only binary', () => {
  expect(() => decodeNumbers(fromBinary('BOOL', Uint8Array.of(2), [1]))).toThrow('bytes 0 and 1')
  expect(() => decodeNumbers(fromJson('BF16', [1]))).toThrow('only accepted as binary data')
  expect(() => decodeNumbers(fromBinary('BF16', Uint8Array.of(0, 0), [1]))).toThrow('no BF16 input')
})

test('BYTES has strings or bytes, of a bounded length', () => {
  expect(
    decodeBytes(
      fromJson(
        'BYTES',
        [
          ['a', ''],
          ['é', 'b'],
        ],
        [2, 2],
      ),
      10,
    ),
  ).toEqual(['a', '', 'é', 'b'])
  const bytes = Uint8Array.of(1, 0, 0, 0, 97, 0, 0, 0, 0)
  expect(decodeBytes(fromBinary('BYTES', bytes, [2]), 10)).toEqual([Uint8Array.of(97), new Uint8Array()])
  expect(() => decodeBytes(fromJson('BYTES', ['abc']), 2)).toThrow('longer than 2 bytes')
  expect(() => decodeBytes(fromBinary('BYTES', Uint8Array.of(3, 0, 0, 0, 97, 98, 99), [1]), 2)).toThrow(
    'longer than 2',
  )
})
