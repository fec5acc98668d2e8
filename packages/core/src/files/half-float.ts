/** The two 16-bit floating-point formats of adapter files, as bit patterns. Both have a sign, an exponent and a mantissa as in IEEE 754. */

export interface HalfFloatFormat {
  readonly mantissaBits: number
  readonly exponentBits: number
}

/** IEEE 754 binary16. */
export const FLOAT16: HalfFloatFormat = { mantissaBits: 10, exponentBits: 5 }
/** The upper half of a binary32. */
export const BFLOAT16: HalfFloatFormat = { mantissaBits: 7, exponentBits: 8 }

/** Returns the value of a 16-bit pattern. */
export function decodeHalfFloat(pattern: number, { mantissaBits, exponentBits }: HalfFloatFormat): number {
  const largest = 2 ** exponentBits - 1
  const bias = 2 ** (exponentBits - 1) - 1
  const exponent = (pattern >>> mantissaBits) & largest
  const mantissa = pattern & (2 ** mantissaBits - 1)
  const sign = pattern & 0x8000 ? -1 : 1
  if (exponent === largest) return mantissa === 0 ? sign * Infinity : NaN
  if (exponent === 0) return sign * mantissa * powerOfTwo(1 - bias - mantissaBits)
  return sign * (2 ** mantissaBits + mantissa) * powerOfTwo(exponent - bias - mantissaBits)
}

const tables = new Map<HalfFloatFormat, Float32Array>()

/** Returns the values of all 65,536 patterns of `FLOAT16` or `BFLOAT16`, made at the first call. */
export function halfFloatTable(format: HalfFloatFormat): Float32Array {
  const found = tables.get(format)
  if (found) return found
  const table = Float32Array.from({ length: 2 ** 16 }, (_, pattern) => decodeHalfFloat(pattern, format))
  tables.set(format, table)
  return table
}

/** Returns the 16-bit pattern nearest to `value`, ties to even. Values beyond the format's range give infinity, NaN gives the quiet NaN. */
export function encodeHalfFloat(value: number, { mantissaBits, exponentBits }: HalfFloatFormat): number {
  const infinity = (2 ** exponentBits - 1) * 2 ** mantissaBits
  const bias = 2 ** (exponentBits - 1) - 1
  if (Number.isNaN(value)) return infinity + 2 ** (mantissaBits - 1)
  view.setFloat64(0, value)
  const high = view.getUint32(0)
  const sign = high >>> 31 ? 0x8000 : 0
  // Numbers with an exponent below 1 − bias are subnormal: all have the same spacing.
  const exponent = Math.max(((high >>> 20) & 0x7ff) - 1023, 1 - bias)
  // Adding and subtracting 2⁵² rounds a double below 2⁵² to an integer, ties to even. A carry correctly increases the exponent.
  const units = Math.abs(value) / powerOfTwo(exponent - mantissaBits) + 2 ** 52 - 2 ** 52
  return sign + Math.min((exponent + bias - 1) * 2 ** mantissaBits + units, infinity)
}

const view = new DataView(new ArrayBuffer(8))

/** Returns `2^exponent` for `−1022 ≤ exponent ≤ 1023`, exact on every engine. `**` with a negative exponent may not be exact. */
function powerOfTwo(exponent: number): number {
  view.setUint32(0, (exponent + 1023) << 20)
  view.setUint32(4, 0)
  return view.getFloat64(0)
}
