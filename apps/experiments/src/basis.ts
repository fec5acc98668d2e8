/**
 * The bases of table 6: `ΔW = α · normalisation · B1 · F · B2` with a sparse `F`, where `B1` and `B2` need not be Fourier matrices. This code is only for
 * experiments. It is not fast, because it multiplies dense matrices.
 *
 * Only the columns of `B1` and the rows of `B2` at the entries matter, so `B1 · F · B2 = left · diag(c) · right` with `left` `[d1, n]` and
 * `right` `[n, d2]`. The real part of the Fourier basis is a difference of two such terms.
 */
import { type Entries, unitCircle } from '@fourierft/core'
import * as tf from '@tensorflow/tfjs-core'

export const basisNames = ['fourier', 'orthogonal', 'random'] as const
export type BasisName = (typeof basisNames)[number]

export interface Basis {
  readonly terms: readonly { readonly left: tf.Tensor2D; readonly right: tf.Tensor2D }[]
  /**
   * The factor that gives each basis the size of the Fourier basis: a coefficient of 1 changes `W` by α times a matrix whose squared
   * norm is 1/(2·d1·d2), exactly (orthogonal; fourier, except at frequency zero and Nyquist) or on average (random).
   */
  readonly normalisation: number
  dispose(): void
}

/** @param seed the seed of the random matrices; the Fourier basis ignores it */
export function makeBasis(name: BasisName, entries: Entries, seed: number): Basis {
  const [d1, d2] = entries.shape
  switch (name) {
    case 'fourier':
      return basisOf(fourierTerms(entries), 1 / (d1 * d2))
    case 'random':
      return basisOf([termAtEntries(entries, seed, gaussian)], Math.SQRT1_2 / (d1 * d2))
    case 'orthogonal':
      return basisOf([termAtEntries(entries, seed, orthogonal)], Math.SQRT1_2 / Math.sqrt(d1 * d2))
  }
}

/** Returns the ΔW `[d1, d2]` of coefficients `[n]`, without the factor `α`. */
export function basisDelta({ terms, normalisation }: Basis, coefficients: tf.Tensor): tf.Tensor2D {
  return tf.tidy(() => {
    const scaled = tf.mul(coefficients, normalisation)
    return tf.addN(terms.map(({ left, right }) => tf.matMul(tf.mul(left, scaled), right))) as tf.Tensor2D
  })
}

const basisOf = (terms: Basis['terms'], normalisation: number): Basis => ({
  terms,
  normalisation,
  dispose: () => tf.dispose(terms.flatMap(({ left, right }) => [left, right])),
})

/** Returns the terms of `cos(a + b) = cos a · cos b − sin a · sin b`, with `a = 2πpj/d1` and `b = 2πqk/d2`. */
function fourierTerms({ shape: [d1, d2], rows, columns }: Entries): Basis['terms'] {
  return tf.tidy(() => {
    const left = cosinesAndSines(d1, rows)
    const right = cosinesAndSines(d2, columns)
    return [
      { left: left.cos, right: tf.transpose(right.cos) as tf.Tensor2D },
      { left: tf.neg(left.sin) as tf.Tensor2D, right: tf.transpose(right.sin) as tf.Tensor2D },
    ]
  })
}

/** Returns `cos` and `sin` of `2π·p·f/d` for each position `p` and each frequency `f`, `[d, n]`. */
function cosinesAndSines(d: number, frequencies: Uint32Array): { cos: tf.Tensor2D; sin: tf.Tensor2D } {
  const circle = unitCircle(d)
  const table = (values: Float64Array) => {
    const matrix = Float32Array.from(
      { length: d * frequencies.length },
      (_, index) =>
        values[
          (Math.floor(index / frequencies.length) * (frequencies[index % frequencies.length] ?? 0)) % d
        ] ?? 0,
    )
    return tf.tensor2d(matrix, [d, frequencies.length])
  }
  return { cos: table(circle.cos), sin: table(circle.sin) }
}

/** Returns the columns of one square matrix at the rows of the entries, and the rows of another square matrix at their columns. */
function termAtEntries(
  { shape: [d1, d2], rows, columns }: Entries,
  seed: number,
  makeSquareMatrix: (d: number, seed: number) => tf.Tensor2D,
): { left: tf.Tensor2D; right: tf.Tensor2D } {
  return tf.tidy(() => ({
    left: tf.gather(makeSquareMatrix(d1, 2 * seed), tf.tensor1d(Int32Array.from(rows), 'int32'), 1),
    right: tf.gather(makeSquareMatrix(d2, 2 * seed + 1), tf.tensor1d(Int32Array.from(columns), 'int32'), 0),
  }))
}

/** Returns a matrix of standard normal numbers, as in the random basis of the paper. */
const gaussian = (d: number, seed: number): tf.Tensor2D =>
  tf.randomNormal<tf.Rank.R2>([d, d], 0, 1, 'float32', seed)

/** Returns the orthogonal factor of a Gaussian matrix. */
export const orthogonal = (d: number, seed: number): tf.Tensor2D =>
  tf.linalg.qr(gaussian(d, seed))[0] as tf.Tensor2D
