/** Numbers in 16 bits, as adapter files store them: coefficients of float16 and bfloat16 keep their bits, which halves their memory. */
import type { FloatDtype } from '@fourierft/core'

export type HalfDtype = Extract<FloatDtype, 'F16' | 'BF16'>

const PATTERNS = 2 ** 16
/** The value of each pattern, for each dtype: 256 kB, made at the first use. */
const tables: { [dtype in HalfDtype]?: Float32Array } = {}

function tableOf(dtype: HalfDtype): Float32Array {
  const values = new Float32Array(PATTERNS)
  const words = new Uint32Array(values.buffer)
  for (let pattern = 0; pattern < PATTERNS; pattern++) {
    const isSubnormal = dtype === 'F16' && (pattern & 0x7c00) === 0
    if (isSubnormal) values[pattern] = (pattern & 0x3ff) * 2 ** -24
    else words[pattern] = dtype === 'BF16' ? pattern << 16 : wordOfFloat16(pattern)
    if (isSubnormal && pattern & 0x8000) words[pattern] |= 2 ** 31
  }
  return values
}

/** Returns the bits of a float32 with the value of a normal float16, an infinity or NaN. */
function wordOfFloat16(pattern: number): number {
  const exponent = (pattern >>> 10) & 0x1f
  const wider = exponent === 0x1f ? 0xff : exponent + 112
  return ((pattern & 0x8000) << 16) | (wider << 23) | ((pattern & 0x3ff) << 13)
}

/** Writes the values of 16-bit patterns to `values`, which is as long. */
export function decodeHalves(patterns: Uint16Array, dtype: HalfDtype, values: Float32Array): void {
  tables[dtype] ??= tableOf(dtype)
  const table = tables[dtype]
  for (let i = 0; i < patterns.length; i++) values[i] = table[patterns[i]]
}

const float = new Float32Array(1)
const bits = new Uint32Array(float.buffer)

/** Writes the 16-bit patterns of numbers that were decoded from this dtype, so that nothing is rounded. */
export function encodeHalves(values: Float32Array, dtype: HalfDtype, patterns: Uint16Array): void {
  for (let i = 0; i < values.length; i++) {
    float[0] = values[i]
    patterns[i] = dtype === 'BF16' ? bits[0] >>> 16 : float16Of(values[i], bits[0])
  }
}

/** @param word the bits of `value` as a float32 */
function float16Of(value: number, word: number): number {
  const sign = (word >>> 16) & 0x8000
  const exponent = (word >>> 23) & 0xff
  // Below 2⁻¹⁴, float16 counts multiples of 2⁻²⁴. Above, its exponent has the bias 15 instead of 127.
  if (exponent < 113) return sign | (Math.abs(value) * 2 ** 24)
  // Infinity and NaN.
  if (exponent === 255) return sign | 0x7c00 | ((word >>> 13) & 0x3ff)
  return sign | ((exponent - 112) << 10) | ((word >>> 13) & 0x3ff)
}
