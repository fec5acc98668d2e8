/** An array as the Python scripts write it into JSON: base64 of the little-endian values. */
export interface EncodedArray {
  readonly dtype: 'float32' | 'int64' | 'uint16'
  readonly shape: readonly number[]
  readonly data: string
}

export interface DecodedArray {
  readonly data: Float32Array | BigInt64Array | Uint16Array
  readonly shape: readonly number[]
}

export function decodeArray({ dtype, shape, data }: EncodedArray): DecodedArray {
  const { buffer } = Uint8Array.from(atob(data), (character) => character.charCodeAt(0))
  const arrays = { float32: Float32Array, int64: BigInt64Array, uint16: Uint16Array }
  return { data: new arrays[dtype](buffer), shape }
}
