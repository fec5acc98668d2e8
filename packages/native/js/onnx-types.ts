/** ONNX's element types that have a typed array. */

/** ONNX Runtime's numbers of the types. */
const TYPES = {
  float32: 1,
  uint8: 2,
  int8: 3,
  uint16: 4,
  int16: 5,
  int32: 6,
  int64: 7,
  string: 8,
  bool: 9,
  float16: 10,
  float64: 11,
  uint32: 12,
  uint64: 13,
  uint4: 21,
  int4: 22,
} as const

export type OnnxType = keyof typeof TYPES

const NAMES = new Map<number, OnnxType>(
  Object.entries(TYPES).map(([name, number]) => [number, name as OnnxType]),
)

type ArrayClass = new (buffer: ArrayBuffer) => ArrayBufferView

/** The array for `float16` numbers: Float16Array if the engine has it, as in ONNX Runtime's packages. */
const HALF_ARRAY = (globalThis as { Float16Array?: ArrayClass }).Float16Array ?? Uint16Array

const ARRAYS: Readonly<Record<Exclude<OnnxType, 'string'>, ArrayClass>> = {
  float32: Float32Array,
  uint8: Uint8Array,
  int8: Int8Array,
  uint16: Uint16Array,
  int16: Int16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  bool: Uint8Array,
  float16: HALF_ARRAY,
  float64: Float64Array,
  uint32: Uint32Array,
  uint64: BigUint64Array,
  uint4: Uint8Array,
  int4: Int8Array,
}

export function numberOf(type: string): number {
  const number = Object.hasOwn(TYPES, type) ? TYPES[type as OnnxType] : undefined
  if (number === undefined)
    throw new TypeError(`type: expected one of ${Object.keys(TYPES).join(', ')}; received ${type}`)
  return number
}

export function typeOf(number: number): OnnxType {
  const name = NAMES.get(number)
  if (name === undefined) throw new TypeError(`tensors of ONNX's element type ${number} are not supported`)
  return name
}

/** Returns the array of the numbers of a type other than `string`. */
export function typedArray(type: OnnxType, bytes: ArrayBuffer): ArrayBufferView {
  return new ARRAYS[type as Exclude<OnnxType, 'string'>](bytes)
}
