/** The datatypes of the Open Inference Protocol, and what they are in ONNX Runtime. */
import type { Tensor } from 'onnxruntime-common'

export const DATATYPES = [
  'BOOL',
  'UINT8',
  'UINT16',
  'UINT32',
  'UINT64',
  'INT8',
  'INT16',
  'INT32',
  'INT64',
  'FP16',
  'BF16',
  'FP32',
  'FP64',
  'BYTES',
] as const

export type Datatype = (typeof DATATYPES)[number]

/** Datatypes whose elements have a fixed size, as typed arrays of numbers. */
export type NumberArray =
  | Uint8Array
  | Uint16Array
  | Uint32Array
  | BigUint64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | Float32Array
  | Float64Array

interface Numeric {
  readonly type: Tensor.Type
  /** The array of the elements. FP16 is its bits. */
  readonly array: new (
    buffer: ArrayBuffer,
  ) => NumberArray
  /** Bytes of an element. */
  readonly size: number
  /** The smallest and the largest integer. */
  readonly range?: readonly [bigint, bigint]
}

const unsigned = (bits: bigint) => [0n, 2n ** bits - 1n] as const
const signed = (bits: bigint) => [-(2n ** (bits - 1n)), 2n ** (bits - 1n) - 1n] as const

/** All datatypes but BYTES, whose elements have no fixed size, and BF16, which ONNX Runtime's JavaScript does not have. */
export const NUMERIC: Readonly<Record<Exclude<Datatype, 'BYTES' | 'BF16'>, Numeric>> = {
  BOOL: { type: 'bool', array: Uint8Array, size: 1 },
  UINT8: { type: 'uint8', array: Uint8Array, size: 1, range: unsigned(8n) },
  UINT16: { type: 'uint16', array: Uint16Array, size: 2, range: unsigned(16n) },
  UINT32: { type: 'uint32', array: Uint32Array, size: 4, range: unsigned(32n) },
  UINT64: { type: 'uint64', array: BigUint64Array, size: 8, range: unsigned(64n) },
  INT8: { type: 'int8', array: Int8Array, size: 1, range: signed(8n) },
  INT16: { type: 'int16', array: Int16Array, size: 2, range: signed(16n) },
  INT32: { type: 'int32', array: Int32Array, size: 4, range: signed(32n) },
  INT64: { type: 'int64', array: BigInt64Array, size: 8, range: signed(64n) },
  FP16: { type: 'float16', array: Uint16Array, size: 2 },
  FP32: { type: 'float32', array: Float32Array, size: 4 },
  FP64: { type: 'float64', array: Float64Array, size: 8 },
}

export type NumericDatatype = keyof typeof NUMERIC

/** Returns the protocol's name for a type of ONNX Runtime; undefined if it has none. */
export function datatypeOf(type: Tensor.Type): NumericDatatype | 'BYTES' | undefined {
  if (type === 'string') return 'BYTES'
  for (const [name, numeric] of Object.entries(NUMERIC)) {
    if (numeric.type === type) return name as NumericDatatype
  }
  return undefined
}
