/**
 * FourierFT in float64, directly from its equations: every fast path is compared with this oracle. It is
 * naive on purpose and shares no code with the fast paths. It gives the same bits on every engine: sums run in the
 * order of the indices, and angles are exact (`unit-circle`).
 *
 * Notation: `E = {(j_l, k_l)}` entries, `c` coefficients, `α` scaling, `e(t) = exp(2πi·t)`, `p` and `q` rows
 * and columns of ΔW.
 *
 * @see "Parameter-Efficient Fine-Tuning with Discrete Fourier Transform" (Gao et al., 2024), equations 2–4
 *   and Algorithm 1
 */
import type { FloatArray, Layer } from '../adapter/layer.js'
import { FourierFTError } from '../errors.js'
import { type UnitCircle, unitCircle } from './unit-circle.js'

export interface ReferenceDeltaOptions {
  /** The rows `p` of ΔW to compute, in this order. Default: all. */
  readonly rows?: ArrayLike<number>
}

export interface ReferenceOptions {
  /** The index in `layers` of the layer for each token; −1 means no layer. Default: the sum of all layers. */
  readonly rows?: Int32Array
}

export interface ReferenceGradients {
  /** `∂L/∂c`, one array `[n]` for each layer. */
  readonly coefficients: Float64Array[]
  /** `∂L/∂x` through the adapters only (no base weight), `[T, d2]`. */
  readonly x: Float64Array
}

/**
 * Computes `ΔW[p,q] = α/(d1·d2) · Σ_l c_l · cos(2π(p·j_l/d1 + q·k_l/d2))`, row-major `[d1, d2]`, or `[rows.length,
 * d2]`.
 *
 * Takes `d1·d2·n` steps: a second for 768×768 and n = 1000. For the layers of large models, choose a few rows.
 *
 * @throws {FourierFTError} `INVALID_OPTION` for a row that is not an integer in `[0, d1)`
 */
export function referenceDelta(layer: Layer, { rows }: ReferenceDeltaOptions = {}): Float64Array {
  const [d1, d2] = layer.shape
  const { entries, coefficients } = layer
  const chosen = rows ?? Uint32Array.from({ length: d1 }, (_, p) => p)
  for (let i = 0; i < chosen.length; i++) checkIndex(`rows[${i}]`, chosen[i], 0, d1)
  const circle1 = unitCircle(d1)
  const circle2 = unitCircle(d2)
  const delta = new Float64Array(chosen.length * d2)
  for (let i = 0; i < chosen.length; i++) {
    const row = delta.subarray(i * d2, (i + 1) * d2)
    for (let l = 0; l < entries.n; l++) {
      const c = coefficients[l]
      const a = (chosen[i] * entries.rows[l]) % d1
      const cosA = circle1.cos[a]
      const sinA = circle1.sin[a]
      const k = entries.columns[l]
      for (let q = 0, b = 0; q < d2; q++, b = advance(b, k, d2)) {
        row[q] = row[q] + c * (cosA * circle2.cos[b] - sinA * circle2.sin[b])
      }
    }
  }
  const factor = layer.scaling / (d1 * d2)
  for (let i = 0; i < delta.length; i++) delta[i] = factor * delta[i]
  return delta
}

/**
 * Computes `y = y0 + Σ Δy` for `T` tokens, without forming ΔW:
 *
 *     X̂[k_l] = Σ_q x[q] · e(q·k_l/d2)
 *     Δy[p]  = α/(d1·d2) · Re Σ_l c_l · X̂[k_l] · e(p·j_l/d1)
 *
 * @param layers one or more layers of one shape `[d1, d2]`
 * @param x `[T, d2]`, row-major
 * @param y0 `[T, d1]`, the output without adapters; not changed. Default: zeros
 * @returns `[T, d1]`
 * @throws {FourierFTError} `SHAPE_MISMATCH` if shapes or lengths do not fit, `INVALID_OPTION` for an empty list of
 *   layers or a row index out of range
 */
export function referenceForward(
  layers: readonly Layer[],
  x: FloatArray,
  y0?: FloatArray,
  { rows }: ReferenceOptions = {},
): Float64Array {
  const { d1, d2, tokens } = checkTokens(layers, x, rows)
  if (y0 !== undefined) checkLength('y0', y0, tokens, d1)
  const y = y0 === undefined ? new Float64Array(tokens * d1) : Float64Array.from(y0)
  const circle1 = unitCircle(d1)
  const circle2 = unitCircle(d2)
  const sum = new Float64Array(d1)
  for (let t = 0; t < tokens; t++) {
    const token = x.subarray(t * d2, (t + 1) * d2)
    layers.forEach(({ entries, coefficients, scaling }, index) => {
      if (rows !== undefined && rows[t] !== index) return
      sum.fill(0)
      for (let l = 0; l < entries.n; l++) {
        const c = coefficients[l]
        const [re, im] = transformAt(token, entries.columns[l], circle2)
        const j = entries.rows[l]
        for (let p = 0, a = 0; p < d1; p++, a = advance(a, j, d1)) {
          sum[p] = sum[p] + c * (re * circle1.cos[a] - im * circle1.sin[a])
        }
      }
      const factor = scaling / (d1 * d2)
      for (let p = 0; p < d1; p++) y[t * d1 + p] = y[t * d1 + p] + factor * sum[p]
    })
  }
  return y
}

/**
 * Computes the gradients of the adapters for `g = ∂L/∂y`:
 *
 *     Ĝ[j_l]   = Σ_p g[p] · e(p·j_l/d1)
 *     ∂L/∂c_l  = α/(d1·d2) · Σ_tokens Re( Ĝ[j_l] · X̂[k_l] )
 *     ∂L/∂x[q] = α/(d1·d2) · Re Σ_l c_l · Ĝ[j_l] · e(q·k_l/d2)
 *
 * @param layers one or more layers of one shape `[d1, d2]`
 * @param x `[T, d2]`, row-major
 * @param gradY `∂L/∂y`, `[T, d1]`, row-major
 * @throws {FourierFTError} like `referenceForward`
 */
export function referenceBackward(
  layers: readonly Layer[],
  x: FloatArray,
  gradY: FloatArray,
  { rows }: ReferenceOptions = {},
): ReferenceGradients {
  const { d1, d2, tokens } = checkTokens(layers, x, rows)
  checkLength('gradY', gradY, tokens, d1)
  const gradC = layers.map(({ entries }) => new Float64Array(entries.n))
  const gradX = new Float64Array(tokens * d2)
  const circle1 = unitCircle(d1)
  const circle2 = unitCircle(d2)
  const sum = new Float64Array(d2)
  for (let t = 0; t < tokens; t++) {
    const token = x.subarray(t * d2, (t + 1) * d2)
    const gradient = gradY.subarray(t * d1, (t + 1) * d1)
    layers.forEach(({ entries, coefficients, scaling }, index) => {
      if (rows !== undefined && rows[t] !== index) return
      const factor = scaling / (d1 * d2)
      const layerGradient = gradC[index]
      sum.fill(0)
      for (let l = 0; l < entries.n; l++) {
        const c = coefficients[l]
        const k = entries.columns[l]
        const [xRe, xIm] = transformAt(token, k, circle2)
        const [gRe, gIm] = transformAt(gradient, entries.rows[l], circle1)
        layerGradient[l] = layerGradient[l] + factor * (gRe * xRe - gIm * xIm)
        for (let q = 0, b = 0; q < d2; q++, b = advance(b, k, d2)) {
          sum[q] = sum[q] + c * (gRe * circle2.cos[b] - gIm * circle2.sin[b])
        }
      }
      for (let q = 0; q < d2; q++) gradX[t * d2 + q] = gradX[t * d2 + q] + factor * sum[q]
    })
  }
  return { coefficients: gradC, x: gradX }
}

/** Returns the real and the imaginary part of `Σ_q x[q] · e(q·k/d)`, where `d` is the length of `x`. */
function transformAt(x: FloatArray, k: number, { cos, sin }: UnitCircle): [number, number] {
  let re = 0
  let im = 0
  for (let q = 0, b = 0; q < x.length; q++, b = advance(b, k, x.length)) {
    re += x[q] * cos[b]
    im += x[q] * sin[b]
  }
  return [re, im]
}

/** Returns `(index + step) mod d` for `index` and `step` in `[0, d)`. */
function advance(index: number, step: number, d: number): number {
  const sum = index + step
  return sum < d ? sum : sum - d
}

function checkTokens(layers: readonly Layer[], x: FloatArray, rows: Int32Array | undefined) {
  const first = layers[0]
  if (first === undefined) {
    throw new FourierFTError('INVALID_OPTION', 'layers: expected at least one layer; received none', {
      option: 'layers',
    })
  }
  const [d1, d2] = first.shape
  const other = layers.find(({ shape }) => shape[0] !== d1 || shape[1] !== d2)
  if (other !== undefined) {
    throw new FourierFTError(
      'SHAPE_MISMATCH',
      `layers: expected layers of one shape; received '${first.name}' with [${d1}, ${d2}] and '${other.name}' with [${other.shape.join(', ')}]`,
      { module: other.name, expected: first.shape, received: other.shape },
    )
  }
  const tokens = Math.floor(x.length / d2)
  checkLength('x', x, tokens, d2)
  if (rows !== undefined) {
    checkLength('rows', rows, tokens, 1)
    rows.forEach((row, t) => {
      checkIndex(`rows[${t}]`, row, -1, layers.length)
    })
  }
  return { d1, d2, tokens }
}

function checkLength(option: string, values: ArrayLike<number>, tokens: number, d: number): void {
  if (values.length === tokens * d) return
  throw new FourierFTError(
    'SHAPE_MISMATCH',
    `${option}: expected ${tokens} × ${d} numbers; received ${values.length}`,
    { option, expected: [tokens, d], received: values.length },
  )
}

function checkIndex(option: string, index: number, smallest: number, end: number): void {
  if (Number.isInteger(index) && index >= smallest && index < end) return
  throw new FourierFTError(
    'INVALID_OPTION',
    `${option}: expected an integer in ${smallest} … ${end - 1}; received ${index}`,
    { option, expected: `an integer in ${smallest} … ${end - 1}`, received: index },
  )
}
