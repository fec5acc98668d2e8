/**
 * Level 1: the entries. `core` draws entries on the JavaScript engine that runs the backend, and the suite finds the entries that the
 * backend applies from its ΔW. All comparisons are exact.
 */
import {
  bandPassEntries,
  bandPassMap,
  createLayer,
  type Entries,
  entriesDigest,
  type FloatArray,
  type Shape,
  uniformEntries,
} from '@fourierft/core'
import type { Backend } from '@fourierft/core/conformance'
import { JAVASCRIPT_ENGINE_DIGESTS } from '../engine-digests.js'
import type { Level } from '../level.js'
import type { BandPassVector, UniformVector } from '../vectors.js'

/** From this size, `randperm` draws 64 bits for each of the `d1·d2` positions, which takes seconds. */
const WIDE_SIZE = 214748364

export const entriesLevel: Level = {
  level: 1,
  title: 'entries',
  async run({ backend, vectors, quick, check }) {
    const narrow = vectors.uniform.filter(({ shape, algorithm }) => !isWide(shape) && algorithm === undefined)
    await check(`uniform: ${narrow.length} lists of torch.randperm, 32-bit draws`, 0, () =>
      count(narrow, isWrong),
    )
    const legacy = vectors.uniform.filter(({ algorithm }) => algorithm === 'legacy')
    await check(`uniform: ${legacy.length} lists of the legacy algorithm`, 0, () => count(legacy, isWrong))
    if (!quick) {
      const wide = vectors.uniform.filter(({ shape, algorithm }) => isWide(shape) && algorithm === undefined)
      await check(`uniform: ${wide.length} lists of torch.randperm, 64-bit draws`, 0, () =>
        count(wide, isWrong),
      )
    }

    await check('band-pass: the map of equation 5, as numpy computes it', 0, () =>
      vectors.bandPass.reduce((sum, vector) => sum + countDifferentWeights(vector), 0),
    )
    await check('band-pass: the same draws on every engine', 0, () =>
      count(Object.entries(JAVASCRIPT_ENGINE_DIGESTS.bandPass), ([name, digest]) => {
        const { shape, n, seed, centerFrequency, bandwidth } = JSON.parse(name)
        return entriesDigest(bandPassEntries({ shape, n, seed, centerFrequency, bandwidth })) !== digest
      }),
    )

    for (const [shape, n, seed] of APPLIED_ENTRIES) {
      await check(`applied by the backend: [${shape.join(', ')}], n = ${n}`, 0, () =>
        countWrongPositions(backend, uniformEntries({ shape, n, seed })),
      )
    }
  },
}

/** Square, wide and tall spectra. In a square spectrum, exchanged rows and columns are still in range. */
const APPLIED_ENTRIES: readonly (readonly [Shape, n: number, seed: number])[] = [
  [[24, 24], 40, 777],
  [[12, 32], 25, 1],
  [[35, 9], 30, 2024],
]

function isWide([d1, d2]: Shape): boolean {
  return d1 * d2 >= WIDE_SIZE
}

function count<Case>(cases: readonly Case[], wrong: (example: Case) => boolean): number {
  return cases.filter(wrong).length
}

function isWrong({ shape, n, seed, algorithm, digest }: UniformVector): boolean {
  return (
    entriesDigest(uniformEntries({ shape, n, seed: BigInt(seed), ...(algorithm && { algorithm }) })) !==
    digest
  )
}

/**
 * Counts the weights that differ from numpy's. Both programs evaluate one exponential of an argument with a few roundings. An error ε of
 * the argument `a` is an error of `p·a·ε` in `p = exp(−a)`, and `p·a ≤ 1/e`: 16 roundings of 2⁻⁵³ cover both.
 */
function countDifferentWeights({ map, ...options }: BandPassVector): number {
  const computed = bandPassMap(options)
  if (computed.length !== map.length) return Math.max(computed.length, map.length)
  return map.filter((weight, i) => !(Math.abs(computed[i] - weight) <= 16 * 2 ** -53)).length
}

/**
 * Finds the entries that a backend applied from its ΔW, the real part of the inverse transform of the spectrum `F`. The transform of ΔW is
 * `(F[j,k] + conj F[−j,−k]) / 2`. With coefficients in [1, 2) and α = 1 it is at least 1/2 at an entry and at its mirror image, and 0
 * elsewhere, so 1/4 separates them in any precision.
 */
async function countWrongPositions(backend: Backend, entries: Entries): Promise<number> {
  const { shape, n, rows, columns } = entries
  const [d1, d2] = shape
  const coefficients = Float32Array.from({ length: n }, (_, l) => 1 + l / n)
  const layer = createLayer({ name: 'applied', shape, entries, coefficients, scaling: 1 })
  const delta = await backend.delta(layer)
  if (delta.length !== d1 * d2) throw new Error(`ΔW: expected ${d1 * d2} numbers, received ${delta.length}`)
  const expected = new Uint8Array(d1 * d2)
  for (let l = 0; l < n; l++) {
    const j = rows[l]
    const k = columns[l]
    expected[j * d2 + k] = 1
    expected[((d1 - j) % d1) * d2 + ((d2 - k) % d2)] = 1
  }
  const found = spectrumMagnitude(delta, shape)
  let wrong = 0
  // A NaN fails these comparisons, so it counts as wrong.
  for (let i = 0; i < found.length; i++) {
    const size = found[i]
    if (!(expected[i] === 1 ? size > 0.25 : size < 0.25)) wrong++
  }
  return wrong
}

/** Returns `|DFT2(ΔW)|`, transformed first along the rows and then along the columns. */
function spectrumMagnitude(delta: FloatArray, [d1, d2]: Shape): Float64Array {
  const alongRows = { re: new Float64Array(d1 * d2), im: new Float64Array(d1 * d2) }
  for (let p = 0; p < d1; p++) {
    for (let k = 0; k < d2; k++) {
      let re = 0
      let im = 0
      for (let q = 0; q < d2; q++) {
        const angle = (-2 * Math.PI * ((q * k) % d2)) / d2
        re += delta[p * d2 + q] * Math.cos(angle)
        im += delta[p * d2 + q] * Math.sin(angle)
      }
      alongRows.re[p * d2 + k] = re
      alongRows.im[p * d2 + k] = im
    }
  }
  const magnitude = new Float64Array(d1 * d2)
  for (let j = 0; j < d1; j++) {
    for (let k = 0; k < d2; k++) {
      let re = 0
      let im = 0
      for (let p = 0; p < d1; p++) {
        const angle = (-2 * Math.PI * ((p * j) % d1)) / d1
        const cos = Math.cos(angle)
        const sin = Math.sin(angle)
        const a = alongRows.re[p * d2 + k]
        const b = alongRows.im[p * d2 + k]
        re += a * cos - b * sin
        im += a * sin + b * cos
      }
      magnitude[j * d2 + k] = Math.hypot(re, im)
    }
  }
  return magnitude
}
