/** Tests that the Fourier basis gives FourierFT's ΔW, and that the other two have the properties that table 6 names, and the same size. */
import { createLayer, type Entries, referenceDelta, uniformEntries } from '@fourierft/core'
import { startTensorFlow } from '@fourierft/quickstart'
import * as tf from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, it } from 'vitest'
import { type BasisName, basisDelta, basisNames, makeBasis, orthogonal } from './basis.js'

beforeAll(async () => {
  await startTensorFlow()
})

const entries = uniformEntries({ shape: [12, 20], n: 30, seed: 5 })
const coefficients = Float32Array.from({ length: entries.n }, (_, index) => Math.sin(index + 1))

/** Returns the ΔW of coefficients `values`, without the factor α. */
function deltaOf(name: BasisName, positions: Entries, values: Float32Array, seed = 3): Float32Array {
  const basis = makeBasis(name, positions, seed)
  const delta = tf.tidy(() => basisDelta(basis, tf.tensor1d(values)).dataSync<'float32'>())
  basis.dispose()
  return delta
}

describe('the Fourier basis', () => {
  it('gives the same ΔW as core', () => {
    const delta = deltaOf('fourier', entries, coefficients)
    const layer = createLayer({ name: 'layer', shape: entries.shape, entries, coefficients, scaling: 1 })
    const expected = referenceDelta(layer)
    // A sum of 2n products of three float32 factors of at most 1: 2n + 4 roundings of Σ|c|/(d1·d2).
    const [d1, d2] = entries.shape
    const total = coefficients.reduce((sum, value) => sum + Math.abs(value), 0)
    const limit = ((2 * entries.n + 4) * 2 ** -24 * 2 * total) / (d1 * d2)
    expect(delta).toHaveLength(d1 * d2)
    for (const [index, value] of expected.entries()) {
      expect(Math.abs((delta[index] ?? Number.NaN) - value)).toBeLessThanOrEqual(limit)
    }
  })
})

describe('the orthogonal basis', () => {
  it('is orthogonal', () => {
    const size = 64
    const product = tf.tidy(() => {
      const matrix = orthogonal(size, 7)
      return tf.matMul(matrix, matrix, true, false).dataSync<'float32'>()
    })
    // `size` reflections, each with rounded sums of `size` products: √size·size roundings, times 8 for their constant.
    const limit = 8 * size * Math.sqrt(size) * 2 ** -24
    for (const [index, value] of product.entries()) {
      const identity = Math.floor(index / size) === index % size ? 1 : 0
      expect(Math.abs(value - identity)).toBeLessThanOrEqual(limit)
    }
  })
})

describe.each(basisNames)('the %s basis', (name) => {
  it('is linear in the coefficients', () => {
    const delta = deltaOf(name, entries, coefficients)
    const doubled = deltaOf(
      name,
      entries,
      coefficients.map((value) => 2 * value),
    )
    // Doubling is exact in binary.
    expect(doubled).toEqual(delta.map((value) => 2 * value))
  })

  it('changes W by a squared norm of 1/(2·d1·d2) for each coefficient, on average over the entries', () => {
    const shape = [24, 24] as const
    const allEntries = uniformEntries({ shape, n: shape[0] * shape[1], seed: 1 })
    let sum = 0
    const count = 200
    for (let index = 0; index < count; index++) {
      const oneEntry = {
        ...allEntries,
        n: 1,
        rows: allEntries.rows.subarray(index, index + 1),
        columns: allEntries.columns.subarray(index, index + 1),
      }
      sum += deltaOf(name, oneEntry, Float32Array.of(1)).reduce((norm, value) => norm + value * value, 0)
    }
    // For Gaussian rows and columns, (1/d)·χ² with 24 degrees of freedom has a deviation of √(2/24) = 0.29, the product of two 0.42, and the mean
    // over 24 rows and 24 columns 0.083. The limit is four deviations. (The four real Fourier entries have twice the norm, which adds at most
    // 4/576.)
    expect((sum / count) * 2 * shape[0] * shape[1]).toBeGreaterThan(1 - 4 * 0.083)
    expect((sum / count) * 2 * shape[0] * shape[1]).toBeLessThan(1 + 4 * 0.083)
  })

  it('depends only on its seed, and frees its tensors', () => {
    const before = tf.memory().numTensors
    expect(deltaOf(name, entries, coefficients)).toEqual(deltaOf(name, entries, coefficients))
    expect(tf.memory().numTensors).toBe(before)
  })
})

it.each(['orthogonal', 'random'] as const)('another seed gives another %s basis', (name) => {
  expect(deltaOf(name, entries, coefficients, 4)).not.toEqual(deltaOf(name, entries, coefficients, 3))
})
