/**
 * The vectors that PEFT and PyTorch made (`oracle/make_vectors.py`), as typed arrays. This file does not run code of
 * `core`, because the vectors test it.
 */

import type { AdapterBytes, Shape } from '@fourierft/core'
import { platform } from '#platform'

/** A layer: its coefficients are `seededValues(coefficientsSeed, n)`, its entries those that PEFT draws from `seed`. */
export interface LayerSpec {
  readonly shape: Shape
  readonly n: number
  readonly seed: number
  readonly coefficientsSeed: number
  readonly scaling: number
}

export interface UniformVector {
  readonly shape: Shape
  readonly n: number
  /** Decimal digits: some seeds are not safe integers. */
  readonly seed: string
  readonly algorithm?: 'legacy'
  readonly digest: string
  /** The first entries, to see where two lists differ. */
  readonly first: readonly (readonly [number, number])[]
}

export interface BandPassVector {
  readonly shape: Shape
  readonly centerFrequency: number
  readonly bandwidth: number
  /** `p` for each stored `(j, k)`, by numpy. */
  readonly map: Float64Array
}

export interface DeltaVector extends LayerSpec {
  readonly name: string
  /** `max|ΔW|` over the whole matrix. */
  readonly largest: number
  /** The row-major positions of the numbers in `float64` and `peft`; absent: all. */
  readonly positions?: Uint32Array
  readonly float64: Float64Array
  /** PEFT's own float32 result. */
  readonly peft: Float32Array
  /** `max|peft − float64| / largest` over the whole matrix. */
  readonly peftError: number
}

interface LinearNumbers<Numbers> {
  readonly y: Numbers
  /** `∂L/∂c` of each layer for `L = Σ gradY · y`. */
  readonly coefficients: readonly Numbers[]
  /** `∂L/∂x` */
  readonly x: Numbers
}

/** Inputs: weight `seededValues(seed, d1·d2, 1/4)`, bias `seededValues(seed + 1, d1)`, x `seededValues(seed + 2, T·d2)`, gradY `seededValues(seed + 3, T·d1)`. */
export interface LinearVector extends LinearNumbers<Float64Array> {
  readonly name: string
  readonly layers: readonly LayerSpec[]
  readonly tokens: number
  readonly bias: boolean
  /** Whether the layer was GPT-2's `Conv1D`, which stores `[in, out]`. All arrays here are `[out, in]`. */
  readonly transposed: boolean
  readonly rows: readonly number[] | null
  readonly seed: number
  readonly peft?: LinearNumbers<Float32Array>
}

interface TrainingNumbers {
  /** Mean squared error at each step, before the update. */
  readonly losses: Float64Array
  /** `c` after each of `recordedSteps`, `[recordedSteps.length, n]`. */
  readonly trajectory: Float64Array
}

/** Inputs as in `LinearVector` (weight, bias, x); target `seededValues(seed + 3, T·d1, 4)`; step `s` uses rows `s·batch mod T …`. */
export interface TrainingVector extends TrainingNumbers {
  readonly layer: LayerSpec
  readonly seed: number
  readonly tokens: number
  readonly batch: number
  readonly steps: number
  readonly learningRate: number
  readonly betas: readonly [number, number]
  readonly epsilon: number
  readonly weightDecay: number
  readonly recordedSteps: readonly number[]
  /** The same run through PEFT's layer in float32. */
  readonly peft: TrainingNumbers
}

export interface AdapterLayerVector {
  /** Module name. */
  readonly name: string
  readonly shape: Shape
  readonly n: number
  readonly seed: number
  readonly scaling: number
  readonly coefficients: Float64Array
  /** PEFT's ΔW, rounded to the adapter's dtype by PEFT. */
  readonly peft?: Float32Array
  readonly float64?: Float64Array
}

/** An adapter as `save_pretrained` wrote it, and PEFT's numbers for it. */
export interface AdapterVector {
  readonly name: string
  readonly dtype: 'F32' | 'F16' | 'BF16'
  /** Every linear module of the base model, in the model's order. */
  readonly modules: readonly { readonly name: string; readonly shape: Shape }[]
  /** The modules that PEFT adapted. */
  readonly layers: readonly AdapterLayerVector[]
  readonly files: AdapterBytes
}

export interface Vectors {
  /** Versions of Python, torch, peft and the other libraries that made the vectors. */
  readonly versions: Readonly<Record<string, string>>
  /** `seededValues(7, 16)` as Python makes them. */
  readonly values: Float64Array
  readonly uniform: readonly UniformVector[]
  readonly bandPass: readonly BandPassVector[]
  readonly delta: readonly DeltaVector[]
  readonly linear: readonly LinearVector[]
  readonly training: TrainingVector
  readonly adapters: readonly AdapterVector[]
}

/**
 * Reads the vectors: with `fetch`, or from disk for a `file:` URL.
 *
 * @param base the folder, with a final slash; default: the folder of this package
 */
export async function loadVectors(
  // Vite would treat the folder as a file and drop the final slash.
  base: URL = new URL(/* @vite-ignore */ '../vectors/', import.meta.url),
): Promise<Vectors> {
  const read = base.protocol === 'file:' ? platform.readFile : readFromNetwork
  const json = async (name: string) => {
    const text = new TextDecoder().decode(await read(new URL(name, base)))
    return JSON.parse(text, (_, value) => (isEncoded(value) ? decode(value) : value))
  }
  const [versions, entries, delta, linear, training, { adapters }] = await Promise.all(
    ['versions', 'entries', 'delta', 'linear', 'training', 'adapters'].map((name) => json(`${name}.json`)),
  )
  const withFiles = (adapters as Omit<AdapterVector, 'files'>[]).map(async (adapter) => {
    const folder = new URL(`adapters/${adapter.name}/`, base)
    const [config, model] = await Promise.all([
      read(new URL('adapter_config.json', folder)),
      read(new URL('adapter_model.safetensors', folder)),
    ])
    return { ...adapter, files: { config, model } }
  })
  return {
    versions,
    ...entries,
    delta: delta.cases,
    linear: linear.cases,
    training,
    adapters: await Promise.all(withFiles),
  }
}

async function readFromNetwork(url: URL): Promise<Uint8Array> {
  const response = await fetch(url)
  if (!response.ok) throw new Error(`${url}: ${response.status} ${response.statusText}`)
  return new Uint8Array(await response.arrayBuffer())
}

const ARRAYS = { float64: Float64Array, float32: Float32Array, uint32: Uint32Array }

interface EncodedArray {
  readonly dtype: keyof typeof ARRAYS
  /** Base64 of the little-endian values. */
  readonly data: string
}

function isEncoded(value: unknown): value is EncodedArray {
  return typeof value === 'object' && value !== null && 'dtype' in value && 'data' in value
}

function decode({ dtype, data }: EncodedArray): Float64Array | Float32Array | Uint32Array {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0))
  return new ARRAYS[dtype](bytes.buffer)
}
