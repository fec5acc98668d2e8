/**
 * ΔW, and its adjoint, which turns a gradient with respect to ΔW into one of the coefficients. Neither forms the dense complex spectrum: ΔW
 * is made row by row from half spectra. ΔW is a sum of cosines, so `ΔW[d1−p, d2−q] = ΔW[p, q]`: half of the rows are the others in reverse order.
 *
 * @see Equations 2–4 of the paper; PEFT's `FourierFTLayer.get_delta_weight`.
 */
import type { FloatArray, Layer } from '../adapter/layer.js'
import type { Entries } from '../entries/entries.js'
import { allocateDelta, checkLengths } from './check-size.js'
import { cachedPlan } from './plan-cache.js'
import { halfLength, realFft } from './real-transform.js'
import { shapeMismatch } from './shape-mismatch.js'
import { unitCircle } from './unit-circle.js'

/**
 * Computes `ΔW[p, q] = α/(d1·d2) · Σ_l c_l · cos(2π(p·j_l/d1 + q·k_l/d2))`, row-major `[d1, d2]` = `[out, in]`, in float64 and rounded
 * once.
 *
 * @param out receives ΔW; `d1·d2` numbers. Default: a new `Float32Array`
 * @throws {FourierFTError} `SHAPE_MISMATCH` if `out` has another length; `UNSUPPORTED` for more than 2¹⁹ rows or columns, or if ΔW does
 *   not fit into memory
 */
export function delta(layer: Layer): Float32Array
export function delta<Out extends FloatArray>(layer: Layer, out: Out): Out
export function delta(layer: Layer, out?: FloatArray): FloatArray {
  const [d1, d2] = layer.shape
  if (out !== undefined && out.length !== d1 * d2) {
    throw shapeMismatch(
      `delta of module ${layer.name}: out`,
      `d1·d2 = ${d1}·${d2} = ${d1 * d2} numbers`,
      out.length,
    )
  }
  checkLengths(layer.shape, layer.name)
  const target = out?.fill(0) ?? allocateDelta(layer)
  const transform = realFft(d2)
  forEachRowSpectrum(layer, (p, re, im) => {
    transform.synthesise(re, im, target, p * d2)
    const mirror = (d1 - p) % d1
    if (mirror === p) return
    target.copyWithin(mirror * d2, p * d2, (p + 1) * d2)
    target.subarray(mirror * d2 + 1, (mirror + 1) * d2).reverse()
  })
  return target
}

/** Adds ΔW to `weight` and rounds each element once. `weight` is `[d1, d2]`, row-major; the caller checks its length. */
export function addDelta(layer: Layer, weight: FloatArray): void {
  const [d1, d2] = layer.shape
  const transform = realFft(d2)
  const line = new Float64Array(d2)
  forEachRowSpectrum(layer, (p, re, im) => {
    line.fill(0)
    transform.synthesise(re, im, line, 0)
    const row = p * d2
    for (let q = 0; q < d2; q++) weight[row + q] += line[q]
    const mirror = (d1 - p) % d1
    if (mirror === p) return
    weight[mirror * d2] += line[0]
    for (let q = 1; q < d2; q++) weight[mirror * d2 + q] += line[d2 - q]
  })
}

/** Calls `visit` with the half spectrum of each row `0 … ⌊d1/2⌋` of ΔW, in order. */
function forEachRowSpectrum(
  layer: Layer,
  visit: (p: number, re: Float64Array, im: Float64Array) => void,
): void {
  const [d1, d2] = layer.shape
  const { coefficients, scaling } = layer
  const { rows, columns } = halfPlane(layer.entries)
  const n = rows.length
  const weights = new Float64Array(n)
  for (let l = 0; l < n; l++) weights[l] = (scaling * coefficients[l]) / (d1 * d2)

  const frequencies = halfLength(d2)
  if (n > LOOKUPS_PER_FREQUENCY * frequencies) {
    const { re, im } = columnTransforms(layer.shape, rows, columns, weights)
    for (let p = 0; p < halfLength(d1); p++) {
      const [start, end] = [p * frequencies, (p + 1) * frequencies]
      visit(p, re.subarray(start, end), im.subarray(start, end))
    }
    return
  }
  const { cos, sin } = cachedPlan(`unit-circle ${d1}`, () => unitCircle(d1))
  const re = new Float64Array(frequencies)
  const im = new Float64Array(frequencies)
  // p·j_l mod d1, computed by addition from row to row.
  const turns = new Int32Array(n)
  for (let p = 0; p < halfLength(d1); p++) {
    re.fill(0)
    im.fill(0)
    addRotated(weights, columns, turns, cos, sin, re, im)
    advance(turns, rows, d1)
    visit(p, re, im)
  }
}

/** Adds `w_l·e(turn_l/d1)` to `re[k_l] + i·im[k_l]`. */
function addRotated(
  weights: Float64Array,
  columns: Int32Array,
  turns: Int32Array,
  cos: Float64Array,
  sin: Float64Array,
  re: Float64Array,
  im: Float64Array,
): void {
  for (let l = 0; l < weights.length; l++) {
    re[columns[l]] += weights[l] * cos[turns[l]]
    im[columns[l]] += weights[l] * sin[turns[l]]
  }
}

/** Sets `turns_l ← (turns_l + steps_l) mod length`. */
function advance(turns: Int32Array, steps: Int32Array, length: number): void {
  for (let l = 0; l < turns.length; l++) {
    const turn = turns[l] + steps[l]
    turns[l] = turn >= length ? turn - length : turn
  }
}

/**
 * Applies the adjoint of `delta`, without α: turns a gradient with respect to ΔW into one number for each entry,
 * `Σ_{p,q} gradient[p,q]·cos(2π(p·j_l/d1 + q·k_l/d2))/(d1·d2)`.
 *
 * @param gradient `∂L/∂ΔW`, row-major `[d1, d2]`
 * @returns `[n]`; times α it is `∂L/∂c`
 * @throws {FourierFTError} `SHAPE_MISMATCH` if `gradient` has another length, `UNSUPPORTED` for more than 2¹⁹ rows or columns
 */
export function deltaAdjoint(entries: Entries, gradient: FloatArray): Float64Array {
  const [d1, d2] = entries.shape
  if (gradient.length !== d1 * d2) {
    throw shapeMismatch('gradient', `d1·d2 = ${d1}·${d2} = ${d1 * d2} numbers`, gradient.length)
  }
  checkLengths(entries.shape)
  const { rows, columns } = halfPlane(entries)
  const n = rows.length
  const sums = new Float64Array(n)
  const frequencies = halfLength(d2)
  const spectrumRe = new Float64Array(frequencies)
  const spectrumIm = new Float64Array(frequencies)
  const line = new Float64Array(d2)
  const transform = realFft(d2)
  const { cos, sin } = cachedPlan(`unit-circle ${d1}`, () => unitCircle(d1))
  const turns = new Int32Array(n)
  for (let p = 0; p < halfLength(d1); p++) {
    const mirror = (d1 - p) % d1
    for (let q = 0; q < d2; q++) line[q] = gradient[p * d2 + q]
    if (mirror !== p) {
      line[0] += gradient[mirror * d2]
      for (let q = 1; q < d2; q++) line[q] += gradient[(mirror + 1) * d2 - q]
    }
    transform.analyse(line, 0, spectrumRe, spectrumIm)
    for (let l = 0; l < n; l++) {
      sums[l] += spectrumRe[columns[l]] * cos[turns[l]] - spectrumIm[columns[l]] * sin[turns[l]]
    }
    advance(turns, rows, d1)
  }
  for (let l = 0; l < n; l++) sums[l] /= d1 * d2
  return sums
}

/** Replaces each entry `(j, k)` with `k > d2/2` by `(−j, −k)`, which gives the same ΔW. */
function halfPlane(entries: Entries): { rows: Int32Array; columns: Int32Array } {
  const [d1, d2] = entries.shape
  const rows = Int32Array.from(entries.rows)
  const columns = Int32Array.from(entries.columns)
  for (let l = 0; l < columns.length; l++) {
    if (2 * columns[l] <= d2) continue
    rows[l] = (d1 - rows[l]) % d1
    columns[l] = d2 - columns[l]
  }
  return { rows, columns }
}

/**
 * With at most this many entries for each frequency of a row, a look-up for each entry and row costs less than transforms of whole
 * columns. The measured limit is between 1.1 (256×256 to 1024×1024) and 2 (4096×4096, where the transformed columns exceed the caches).
 */
const LOOKUPS_PER_FREQUENCY = 1.5

/** Transforms the first axis of the spectrum. The result, `[⌊d1/2⌋ + 1, ⌊d2/2⌋ + 1]`, takes as many bytes as ΔW in float32. */
function columnTransforms(
  [d1, d2]: readonly [number, number],
  rows: Int32Array,
  columns: Int32Array,
  weights: Float64Array,
): { re: Float64Array; im: Float64Array } {
  const height = halfLength(d1)
  const width = halfLength(d2)
  const re = new Float64Array(height * width)
  const im = new Float64Array(height * width)
  const columnRe = new Float64Array(height)
  const columnIm = new Float64Array(height)
  const line = new Float64Array(d1)
  const transform = realFft(d1)
  // Counting sort: entries in the order of their columns.
  const starts = new Int32Array(width + 1)
  for (const column of columns) starts[column + 1]++
  for (let k = 0; k < width; k++) starts[k + 1] += starts[k]
  const order = new Int32Array(columns.length)
  const next = starts.slice()
  for (let l = 0; l < columns.length; l++) order[next[columns[l]]++] = l
  for (let k = 0; k < width; k++) {
    if (starts[k] === starts[k + 1]) continue
    line.fill(0)
    for (let i = starts[k]; i < starts[k + 1]; i++) line[rows[order[i]]] += weights[order[i]]
    transform.analyse(line, 0, columnRe, columnIm)
    for (let p = 0; p < height; p++) {
      re[p * width + k] = columnRe[p]
      im[p * width + k] = columnIm[p]
    }
  }
  return { re, im }
}
