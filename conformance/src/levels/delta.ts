/**
 * Level 3: ΔW as `[out, in]`, compared with `core`'s float64 reference and with PyTorch's ΔW.
 *
 * The limit, relative to `max|ref|`, is `2e-6 · log2(d1·d2)`: a float32 transform of N points has log2(N) stages, each with a few
 * roundings of 2⁻²⁴ = 6e-8. The limit allows 33 roundings for each stage.
 */
import {
  createLayer,
  explicitEntries,
  type FloatArray,
  type Layer,
  referenceDelta,
  type Shape,
  uniformEntries,
} from '@fourierft/core'
import { digestOfNumbers, JAVASCRIPT_ENGINE_DIGESTS } from '../engine-digests.js'
import type { Level } from '../level.js'
import { largestDifference, largestMagnitude, relativeError } from '../measure.js'
import { layerOf } from '../reference-oracle.js'
import { seededValues } from '../seeded-values.js'
import type { AdapterLayerVector, AdapterVector } from '../vectors.js'

/** The whole reference takes d1·d2·n steps. Above this number only some rows of the matrix are compared. */
const MAX_REFERENCE_STEPS = 30e6

/** Quick runs omit larger matrices. */
const QUICK_SIZE = 10_000

export const deltaLevel: Level = {
  level: 3,
  title: 'ΔW',
  async run({ backend, vectors, quick, check }) {
    await check("core's reference: the same bits on every engine", 0, () => {
      const recipes = Object.entries(JAVASCRIPT_ENGINE_DIGESTS.reference)
      const different = recipes.filter(
        ([recipe, digest]) => digestOfNumbers(referenceDelta(layerOf(JSON.parse(recipe)))) !== digest,
      )
      return different.length
    })

    for (const vector of vectors.delta) {
      const [d1, d2] = vector.shape
      if (quick && d1 * d2 > QUICK_SIZE) continue
      const layer = layerOf(vector)
      const limit = deltaLimit(vector.shape)
      let delta: FloatArray | undefined
      await check(`${vector.name}, reference`, limit, async () => {
        delta = await backend.delta(layer)
        return errorAgainstReference(delta, layer, vector.largest)
      })
      if (delta === undefined) continue
      const computed = delta
      await check(`${vector.name}, PyTorch in float64`, limit, () => {
        const { positions, float64 } = vector
        const sampled = positions ? Float64Array.from(positions, (i) => computed[i] ?? Number.NaN) : computed
        return largestDifference(sampled, float64) / vector.largest
      })
    }

    for (const [name, layer] of specialLayers()) {
      await check(name, deltaLimit(layer.shape), async () =>
        relativeError(await backend.delta(layer), referenceDelta(layer)),
      )
    }

    for (const adapter of vectors.adapters) {
      for (const layer of adapter.layers) {
        const { peft } = layer
        if (peft === undefined) continue
        await check(`PEFT's ${adapter.name}, ${layer.name}, equal within one rounding`, 0, async () =>
          countWrongRoundings(await backend.delta(layerOfAdapter(layer)), peft, adapter.dtype, layer.shape),
        )
      }
    }
  },
}

/** Returns the limit relative to `max|ref|`. A matrix of one number has no stages, but some roundings. */
export function deltaLimit([d1, d2]: Shape): number {
  return 2e-6 * Math.log2(Math.max(2, d1 * d2))
}

function errorAgainstReference(delta: FloatArray, layer: Layer, largest: number): number {
  const [d1, d2] = layer.shape
  if (delta.length !== d1 * d2) throw new Error(`ΔW: expected ${d1 * d2} numbers, received ${delta.length}`)
  if (d1 * d2 * layer.entries.n <= MAX_REFERENCE_STEPS)
    return largestDifference(delta, referenceDelta(layer)) / largest
  const rows = Uint32Array.from(new Set([0, 1, d1 >> 2, (d1 >> 1) - 1, d1 >> 1, d1 - 1]))
  const sampled = new Float64Array(rows.length * d2)
  rows.forEach((row, i) => {
    sampled.set(delta.subarray(row * d2, (row + 1) * d2), i * d2)
  })
  return largestDifference(sampled, referenceDelta(layer, { rows })) / largest
}

/** Generates layers with entries that a real FFT, computed as a complex one of half the length, easily gets wrong: mean, Nyquist, mirrored pairs, a single row or column. */
function* specialLayers(): Generator<[string, Layer]> {
  const shape: Shape = [12, 20]
  const special = (name: string, positions: readonly (readonly [number, number])[]): [string, Layer] => [
    name,
    createLayer({
      name: 'special',
      shape,
      entries: explicitEntries({
        shape,
        rows: positions.map(([j]) => j),
        columns: positions.map(([, k]) => k),
      }),
      coefficients: seededValues(77, positions.length),
      scaling: 100,
    }),
  ]
  yield special('entry (0, 0)', [[0, 0]])
  yield special('entries at half the length', [
    [6, 0],
    [0, 10],
    [6, 10],
  ])
  yield special('an entry and its mirror image', [
    [2, 3],
    [10, 17],
    [1, 0],
    [11, 0],
  ])
  yield special('entries of one row', [
    [5, 0],
    [5, 1],
    [5, 10],
    [5, 19],
  ])
  yield special('entries of one column', [
    [0, 7],
    [1, 7],
    [6, 7],
    [11, 7],
  ])
  const layer = special('', [[3, 4]])[1]
  yield ['coefficients of 0', { ...layer, coefficients: new Float32Array(1) }]
  yield ['a negative scaling', { ...layer, scaling: -3 }]
}

function layerOfAdapter({ name, shape, n, seed, scaling, coefficients }: AdapterLayerVector): Layer {
  const entries = uniformEntries({ shape, n, seed })
  return createLayer({ name, shape, entries, coefficients: Float32Array.from(coefficients), scaling })
}

/** `[unit roundoff, half the smallest spacing]` */
const ROUNDING: Readonly<Record<AdapterVector['dtype'], readonly [number, number]>> = {
  F32: [2 ** -24, 2 ** -150],
  F16: [2 ** -11, 2 ** -25],
  BF16: [2 ** -8, 2 ** -134],
}

/**
 * Counts the elements of PEFT's ΔW that differ from the backend's by more than the sum of one rounding to `dtype` (`u·|v| + η`) and the
 * limits of both float32 results.
 */
function countWrongRoundings(
  delta: FloatArray,
  rounded: Float32Array,
  dtype: AdapterVector['dtype'],
  shape: Shape,
): number {
  if (delta.length !== rounded.length) {
    throw new Error(`ΔW: expected ${rounded.length} numbers, received ${delta.length}`)
  }
  const [roundoff, floor] = ROUNDING[dtype]
  const slack = 2 * deltaLimit(shape) * largestMagnitude(rounded)
  let wrong = 0
  for (let i = 0; i < rounded.length; i++) {
    const value = delta[i]
    // A NaN fails this comparison, so it counts as wrong.
    if (!(Math.abs(rounded[i] - value) <= roundoff * Math.abs(value) + floor + slack)) wrong++
  }
  return wrong
}
