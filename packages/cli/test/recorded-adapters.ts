/** Reads what `conformance/oracle/make_vectors.py` recorded of adapters that PEFT saved. */
import { readFileSync } from 'node:fs'
import type { Shape } from '@fourierft/core'

/** `data` is the base64 of little-endian values. */
export interface RecordedTensor {
  readonly dtype: string
  readonly shape: readonly number[]
  readonly data: string
}

export interface RecordedLayer {
  readonly name: string
  readonly shape: Shape
  readonly n: number
  readonly coefficients: RecordedTensor
  /** ΔW from the equation in float64, `[out, in]`. */
  readonly float64: RecordedTensor
}

export interface RecordedAdapter {
  readonly name: string
  readonly layers: readonly RecordedLayer[]
}

const { adapters }: { adapters: readonly RecordedAdapter[] } = JSON.parse(
  readFileSync(new URL('../../../conformance/vectors/adapters.json', import.meta.url), 'utf8'),
)

export const recordedAdapters = adapters

export function floats({ dtype, data }: RecordedTensor): Float64Array {
  const { buffer, byteOffset, byteLength } = Uint8Array.from(Buffer.from(data, 'base64'))
  if (dtype !== 'float64') throw new Error(`expected a float64 tensor; received ${dtype}`)
  return new Float64Array(buffer, byteOffset, byteLength / 8)
}
