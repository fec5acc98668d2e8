/** Decodes the input tensors of a request, from JSON or from the binary data after it. Sizes are checked before memory is taken. */
import { encodeFloats } from '@fourierft/core'
import { invalid } from '../check.js'
import { type Datatype, NUMERIC, type NumberArray } from './datatypes.js'
import type { InferRequest } from './infer-request.js'
import { kindOf } from './kind-of.js'

export interface InputTensor {
  readonly name: string
  readonly datatype: Datatype
  readonly shape: readonly number[]
  /** The product of the shape. */
  readonly count: number
  /** Elements as they came: JSON, flat or nested as the shape is, or bytes. */
  readonly content: readonly unknown[] | Uint8Array<ArrayBuffer>
}

/**
 * Gives each input its part of the binary data.
 *
 * @throws {ServerError} `invalid_value` if an input has both kinds of data or none, or the binary data has another length
 */
export function divideBody(
  { inputs }: InferRequest,
  binary: Uint8Array<ArrayBuffer> | undefined,
): readonly InputTensor[] {
  let offset = 0
  const tensors = inputs.map(({ name, datatype, shape, parameters, data }): InputTensor => {
    const count = shape.reduce((product, size) => product * size, 1)
    const size = parameters?.binary_data_size
    if (size === undefined) {
      if (data === undefined) throw invalid(name, 'expected data, or the parameter binary_data_size')
      return { name, datatype, shape, count, content: data }
    }
    if (data !== undefined) throw invalid(name, 'has data as well as binary_data_size')
    const left = (binary?.length ?? 0) - offset
    if (binary === undefined || size > left) {
      throw invalid(name, `binary_data_size is ${size}, but ${left} bytes of binary data are left`)
    }
    const content = binary.subarray(offset, offset + size)
    offset += size
    return { name, datatype, shape, count, content }
  })
  if (binary !== undefined && offset < binary.length) {
    throw invalid('inputs', `${binary.length - offset} bytes of binary data belong to no input`)
  }
  return tensors
}

/** Decodes the elements of a tensor of numbers. FP16 is its bits. @throws {ServerError} `invalid_value` */
export function decodeNumbers(tensor: InputTensor): NumberArray {
  const { name, datatype, count, content } = tensor
  if (datatype === 'BF16' && !(content instanceof Uint8Array))
    throw invalid(name, 'BF16 is only accepted as binary data')
  if (datatype === 'BF16' || datatype === 'BYTES') throw invalid(name, `this model has no ${datatype} input`)
  const { array, size, range } = NUMERIC[datatype]
  if (content instanceof Uint8Array) {
    const expected = count * size
    if (content.length !== expected) throw wrongSize(tensor, `${expected} bytes`, content.length)
    if (datatype === 'BOOL' && content.some((byte) => byte > 1)) throw invalid(name, 'expected bytes 0 and 1')
    // A copy, because the place in the body may not be aligned.
    return new array(content.slice().buffer)
  }
  const values = flatten(tensor, content)
  if (datatype === 'FP16') {
    const floats = Float64Array.from(values, (value) => checkFloat(name, value, 65_504))
    return new array(encodeFloats(floats, 'F16').slice().buffer)
  }
  const numbers = new array(new ArrayBuffer(count * size))
  for (let i = 0; i < count; i++) {
    const value = values[i]
    if (range !== undefined) {
      const integer = checkInteger(name, value, range)
      numbers[i] =
        numbers instanceof BigInt64Array || numbers instanceof BigUint64Array ? BigInt(integer) : integer
    } else if (datatype === 'BOOL') {
      if (typeof value !== 'boolean') throw invalid(name, `expected booleans, received ${kindOf(value)}`)
      numbers[i] = value ? 1 : 0
    } else {
      numbers[i] = checkFloat(name, value, datatype === 'FP32' ? LARGEST_FP32 : Number.MAX_VALUE)
    }
  }
  return numbers
}

/** Decodes the elements of BYTES: strings if they came as JSON, else bytes. @throws {ServerError} `invalid_value` */
export function decodeBytes(
  tensor: InputTensor,
  maxLength: number,
): readonly (string | Uint8Array<ArrayBuffer>)[] {
  const { name, count, content } = tensor
  const checkLength = (length: number) => {
    if (length > maxLength) throw invalid(name, `an element is longer than ${maxLength} bytes`)
  }
  if (!(content instanceof Uint8Array)) {
    return flatten(tensor, content).map((value) => {
      if (typeof value !== 'string') throw invalid(name, `expected strings, received ${kindOf(value)}`)
      checkLength(value.length)
      return value
    })
  }
  // Each element has a length of four bytes before it.
  if (4 * count > content.length) throw wrongSize(tensor, `at least ${4 * count} bytes`, content.length)
  const view = new DataView(content.buffer, content.byteOffset, content.length)
  const elements: Uint8Array<ArrayBuffer>[] = []
  let offset = 0
  while (elements.length < count) {
    const length = offset + 4 <= content.length ? view.getUint32(offset, true) : Number.POSITIVE_INFINITY
    offset += 4
    if (length > content.length - offset)
      throw invalid(name, `element ${elements.length} ends after the binary data`)
    checkLength(length)
    elements.push(content.subarray(offset, offset + length))
    offset += length
  }
  if (offset < content.length) throw wrongSize(tensor, `${count} elements`, content.length)
  return elements
}

/** Decodes an element in UTF-8. @throws {ServerError} `invalid_value` */
export function decodeText(name: string, text: string | Uint8Array): string {
  if (typeof text === 'string') return text
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(text)
  } catch {
    throw invalid(name, 'an element is not valid UTF-8')
  }
}

const LARGEST_FP32 = (2 - 2 ** -23) * 2 ** 127

function checkFloat(name: string, value: unknown, largest: number): number {
  if (typeof value !== 'number') throw invalid(name, `expected numbers, received ${kindOf(value)}`)
  if (Math.abs(value) > largest) throw invalid(name, 'a number is outside the range of the datatype')
  return value
}

/** Rejects integers above 2⁵³ too: the parser of JSON has rounded them. */
function checkInteger(name: string, value: unknown, [least, most]: readonly [bigint, bigint]): number {
  if (typeof value !== 'number') throw invalid(name, `expected integers, received ${kindOf(value)}`)
  if (!Number.isInteger(value)) throw invalid(name, 'expected integers, received a fraction')
  if (value < least || value > most) throw invalid(name, 'an integer is outside the range of the datatype')
  if (!Number.isSafeInteger(value)) {
    throw invalid(name, 'integers above 2^53 are not exact in JSON; send them as binary data')
  }
  return value
}

/** Returns the elements of data that is flat, or nested as its shape is. */
function flatten(tensor: InputTensor, data: readonly unknown[]): readonly unknown[] {
  const { name, shape, count } = tensor
  if (shape.length < 2 || !Array.isArray(data[0])) {
    if (data.length !== count) throw wrongSize(tensor, `${count} elements`, data.length)
    return data
  }
  const elements: unknown[] = []
  const visit = (part: unknown, axis: number) => {
    if (axis === shape.length) elements.push(part)
    else if (!Array.isArray(part) || part.length !== shape[axis]) {
      throw invalid(name, `the nested data does not have the shape [${shape}]`)
    } else for (const inner of part) visit(inner, axis + 1)
  }
  visit(data, 0)
  return elements
}

function wrongSize({ name, shape, datatype }: InputTensor, expected: string, received: number) {
  return invalid(name, `the shape [${shape}] of ${datatype} needs ${expected}; received ${received}`)
}
