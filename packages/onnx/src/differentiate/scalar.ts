/** Single numbers of the float types of ONNX, as bytes. */
import { DataType } from '../model/schema.js'

const FLOAT_TYPES: readonly number[] = [DataType.float, DataType.double, DataType.float16, DataType.bfloat16]

export function isFloatType(type: number): boolean {
  return FLOAT_TYPES.includes(type)
}

/** float16 and bfloat16: 11 and 8 significant bits. */
export function isHalfType(type: number): boolean {
  return type === DataType.float16 || type === DataType.bfloat16
}

/** The number, little-endian, rounded to the type; numbers beyond the range of float16 become infinite. */
export function encodeScalar(value: number, type: number): Uint8Array {
  if (type === DataType.double) return bytesOf(Float64Array.of(value))
  const float = Float32Array.of(value)
  if (type === DataType.float16) return bytesOf(Uint16Array.of(halfBits(value)))
  if (type === DataType.bfloat16) {
    const [bits = 0] = new Uint32Array(float.buffer)
    return bytesOf(Uint16Array.of((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16))
  }
  return bytesOf(float)
}

function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength)
}

/** The bits of the nearest float16, ties to even. */
function halfBits(value: number): number {
  const sign = Object.is(value, -0) || value < 0 ? 0x8000 : 0
  const size = Math.abs(value)
  if (Number.isNaN(size)) return 0x7e00
  if (size >= 65520) return sign | 0x7c00
  if (size < 2 ** -14) return sign | roundToEven(size * 2 ** 24)
  const exponent = Math.floor(Math.log2(size))
  return sign | (((exponent + 14) << 10) + roundToEven((size / 2 ** exponent) * 1024))
}

function roundToEven(value: number): number {
  const floor = Math.floor(value)
  const rest = value - floor
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor
}
