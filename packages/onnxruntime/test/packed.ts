/** Arrays as the Python scripts write them into JSON: base64 of the little-endian values. */

export interface Packed {
  readonly dtype: 'float32' | 'int64' | 'uint16'
  readonly shape: readonly number[]
  readonly data: string
}

export interface Unpacked {
  readonly data: Float32Array | BigInt64Array | Uint16Array
  readonly shape: readonly number[]
}

export function unpack({ dtype, shape, data }: Packed): Unpacked {
  const { buffer } = Uint8Array.from(atob(data), (character) => character.charCodeAt(0))
  const arrays = { float32: Float32Array, int64: BigInt64Array, uint16: Uint16Array }
  return { data: new arrays[dtype](buffer), shape }
}
