/**
 * The `factored` strategy: `Δy = α/(d1·d2) · ((x·C2 ∘ c)·C1ᵀ − (x·S2 ∘ c)·S1ᵀ)` with cosine and sine bases of the entries' frequencies.
 * Two matrix products and a scaling, and their exact transposes in the backward pass; ΔW is never computed.
 *
 * @see `ΔW = α/(d1·d2) · Σ_l c_l cos(2π(p·j_l/d1 + q·k_l/d2))` and the addition theorem of the cosine
 */
import { type Entries, unitCircle } from '@fourierft/core'
import { mul, reshape, sum, type Tensor, type Tensor2D, tensor2d } from '@tensorflow/tfjs-core'
import { constantProduct } from '../ops/matrix-products.js'
import { withGradient } from '../ops/with-gradient.js'
import type { TableCache } from '../table-cache.js'
import { coefficientsPerToken, type StrategyInput } from './strategy-function.js'

export function factored({ x, c, rows, entries, tables }: StrategyInput): Tensor2D {
  const spectrum = constantProduct(
    x,
    () => inputBasis(entries, tables),
    () => inputBasisTransposed(entries, tables),
  )
  return synthesise(modulate(spectrum, coefficientsPerToken({ c, rows })), entries, tables)
}

/**
 * Computes ΔWᵀ `[d2, d1]`, in the layout of a TensorFlow.js kernel: the rows of the input basis are the spectra of the unit vectors.
 *
 * @param c coefficients times `α/(d1·d2)`, `[n]`
 */
export function factoredKernel(c: Tensor, entries: Entries, tables: TableCache): Tensor2D {
  return synthesise(modulate(inputBasis(entries, tables), c), entries, tables)
}

/** The input of `factoredLookup`, whose tokens are indices. */
export interface LookupInput extends Omit<StrategyInput, 'x' | 'base'> {
  /** `[T]`, each `0 … d2−1` */
  readonly ids: ArrayLike<number>
}

/** Computes only the rows `ids` of ΔWᵀ, `[T, d1]`: Δy of one-hot tokens, whose spectra are rows of the input basis. */
export function factoredLookup({ ids, c, rows, entries, tables }: LookupInput): Tensor2D {
  const { columns, n, shape } = entries
  const spectrum = tensor2d(basisRows(columns, shape[1], ids), [ids.length, 2 * n])
  return synthesise(modulate(spectrum, coefficientsPerToken({ c, rows })), entries, tables)
}

function synthesise(spectrum: Tensor2D, entries: Entries, tables: TableCache): Tensor2D {
  return constantProduct(
    spectrum,
    () => outputBasis(entries, tables),
    () => outputBasisTransposed(entries, tables),
  )
}

/** Multiplies both halves (cosine and sine) of `spectrum` `[T, 2n]` by `c`: `[n]` for all tokens, or `[T, n]`. */
function modulate(spectrum: Tensor2D, c: Tensor): Tensor2D {
  const [tokens, width] = spectrum.shape
  const n = width / 2
  const isShared = c.rank === 1
  const forBothHalves = (c: Tensor) => reshape(c, [isShared ? 1 : tokens, 1, n])
  const halves = (t: Tensor) => reshape(t, [tokens, 2, n])
  const scale = (t: Tensor, c: Tensor) => reshape(mul(halves(t), forBothHalves(c)), [tokens, width])
  return withGradient(
    [spectrum, c],
    () => ({ value: scale(spectrum, c), saved: [spectrum, c] }),
    (gradient, saved) => {
      const [spectrum, c] = saved as [Tensor, Tensor]
      const products = mul(spectrum, gradient)
      const byCoefficient = isShared ? sum(reshape(sum(products, 0), [2, n]), 0) : sum(halves(products), 1)
      return [scale(gradient, c), byCoefficient]
    },
  ) as Tensor2D
}

/** `[d2, 2n]`: `cos(2π·q·k_l/d2)`, then the sines. */
function inputBasis(entries: Entries, tables: TableCache): Tensor2D {
  const { columns, n, shape } = entries
  return tables.table(entries, 'factored/input', () =>
    tensor2d(basis(columns, shape[1], 1), [shape[1], 2 * n]),
  ) as Tensor2D
}

function inputBasisTransposed(entries: Entries, tables: TableCache): Tensor2D {
  const { columns, n, shape } = entries
  return tables.table(entries, 'factored/input-transposed', () =>
    tensor2d(transposedBasis(columns, shape[1], 1), [2 * n, shape[1]]),
  ) as Tensor2D
}

/** `[2n, d1]`: `cos(2π·p·j_l/d1)`, then the negated sines. */
function outputBasis(entries: Entries, tables: TableCache): Tensor2D {
  const { rows, n, shape } = entries
  return tables.table(entries, 'factored/output', () =>
    tensor2d(transposedBasis(rows, shape[0], -1), [2 * n, shape[0]]),
  ) as Tensor2D
}

function outputBasisTransposed(entries: Entries, tables: TableCache): Tensor2D {
  const { rows, n, shape } = entries
  return tables.table(entries, 'factored/output-transposed', () =>
    tensor2d(basis(rows, shape[0], -1), [shape[0], 2 * n]),
  ) as Tensor2D
}

/** Computes `[d, 2n]`, row-major: at position `q` the cosines of `2π·q·f/d` for all frequencies, then `sign` times their sines. */
function basis(frequencies: Uint32Array, d: number, sign: 1 | -1): Float32Array {
  const { cos, sin } = unitCircle(d)
  const n = frequencies.length
  const values = new Float32Array(d * 2 * n)
  for (let l = 0; l < n; l++) {
    const frequency = frequencies[l]
    let angle = 0
    for (let q = 0; q < d; q++) {
      values[q * 2 * n + l] = cos[angle]
      values[q * 2 * n + n + l] = sign * sin[angle]
      angle = (angle + frequency) % d
    }
  }
  return values
}

/** Computes the transpose of `basis`, row-major `[2n, d]`. */
function transposedBasis(frequencies: Uint32Array, d: number, sign: 1 | -1): Float32Array {
  const { cos, sin } = unitCircle(d)
  const n = frequencies.length
  const values = new Float32Array(2 * n * d)
  for (let l = 0; l < n; l++) {
    const frequency = frequencies[l]
    let angle = 0
    for (let q = 0; q < d; q++) {
      values[l * d + q] = cos[angle]
      values[(n + l) * d + q] = sign * sin[angle]
      angle = (angle + frequency) % d
    }
  }
  return values
}

/** Computes the rows `positions` of `basis` with sign 1, `[T, 2n]`. */
function basisRows(frequencies: Uint32Array, d: number, positions: ArrayLike<number>): Float32Array {
  const { cos, sin } = unitCircle(d)
  const n = frequencies.length
  const values = new Float32Array(positions.length * 2 * n)
  for (let t = 0; t < positions.length; t++) {
    const q = positions[t]
    // Out of range: a row of zeros, as in the `gather` of those backends of TensorFlow.js that do not throw.
    if (q < 0 || q >= d) continue
    for (let l = 0; l < n; l++) {
      // The product is exact, because it is below 2⁵³.
      const angle = (q * frequencies[l]) % d
      values[t * 2 * n + l] = cos[angle]
      values[t * 2 * n + n + l] = sin[angle]
    }
  }
  return values
}
