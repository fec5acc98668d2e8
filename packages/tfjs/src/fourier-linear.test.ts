import {
  createLayer,
  FourierFTError,
  type Layer,
  referenceBackward,
  referenceForward,
  uniformEntries,
} from '@fourierft/core'
import * as tf from '@tensorflow/tfjs-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { useBackend } from './__fixtures__/use-backend.js'
import { disposeTables, fourierLinear } from './fourier-linear.js'

/**
 * The limit for float32 compared with the float64 reference. Each output is a sum of at most 2n + d2 rounded products of numbers that are
 * sums of d2 products. The random errors of such sums grow like the square root of their length: 2⁻²⁴ · √(2n + d2) · √d2 times the
 * sum of magnitudes. For the sizes below, this is less than 1e-5 times the largest output, the limit of the conformance suite.
 */
const TOLERANCE = 1e-5

const STRATEGIES = ['dense', 'factored', 'spectral'] as const

function normals(length: number, seed: number): Float32Array {
  return tf.tidy(() => tf.randomNormal([length], 0, 1, 'float32', seed).dataSync() as Float32Array)
}

function makeLayer(d1: number, d2: number, n: number, seed: number): Layer {
  const entries = uniformEntries({ shape: [d1, d2], n, seed: 2024 })
  const coefficients = normals(n, seed)
  return createLayer({ name: `layer${seed}`, shape: [d1, d2], entries, coefficients, scaling: 150 })
}

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>): void {
  expect(actual.length).toBe(expected.length)
  let largest = 0
  let error = 0
  for (let i = 0; i < expected.length; i++) {
    largest = Math.max(largest, Math.abs(expected[i]))
    error = Math.max(error, Math.abs(actual[i] - expected[i]))
  }
  expect(error).toBeLessThanOrEqual(TOLERANCE * largest)
}

describe.each(['cpu', 'wasm'] as const)('fourierLinear on %s', (backend) => {
  beforeAll(() => useBackend(backend))
  afterAll(disposeTables)

  describe.each(STRATEGIES)('%s', (strategy) => {
    it.each([
      [16, 16, 20, 1],
      [24, 10, 33, 7],
      [7, 31, 50, 3],
      [1, 5, 2, 4],
      [64, 48, 1000, 9],
    ])('computes the reference forward and backward: [%i, %i], n = %i, T = %i', (d1, d2, n, tokens) => {
      const layer = makeLayer(d1, d2, n, 1)
      const x = normals(tokens * d2, 2)
      const gradY = normals(tokens * d1, 3)
      const expected = referenceBackward([layer], x, gradY)
      tf.tidy(() => {
        const xs = tf.tensor2d(x, [tokens, d2])
        const c = tf.tensor1d(Float32Array.from(layer.coefficients))
        expectClose(fourierLinear(xs, c, layer, { strategy }).dataSync(), referenceForward([layer], x))
        const [gradX, gradC] = tf.grads((xs: tf.Tensor, c: tf.Tensor) =>
          fourierLinear(xs, c, layer, { strategy }),
        )([xs, c], tf.tensor2d(gradY, [tokens, d1])) as [tf.Tensor, tf.Tensor]
        expectClose(gradX.dataSync(), expected.x)
        expectClose(gradC.dataSync(), expected.coefficients[0])
      })
    })

    it('applies a different adapter, or none, to each token', () => {
      const layers = [makeLayer(12, 20, 15, 1), makeLayer(12, 20, 15, 2), makeLayer(12, 20, 15, 3)]
      const rows = Int32Array.of(2, -1, 0, 0, 1, 2)
      const x = normals(6 * 20, 4)
      const gradY = normals(6 * 12, 5)
      const expected = referenceBackward(layers, x, gradY, { rows })
      tf.tidy(() => {
        const xs = tf.tensor2d(x, [6, 20])
        const c = tf.stack(layers.map((layer) => tf.tensor1d(Float32Array.from(layer.coefficients))))
        const spec = layers[0]
        expectClose(
          fourierLinear(xs, c, spec, { strategy, rows }).dataSync(),
          referenceForward(layers, x, undefined, { rows }),
        )
        const [gradX, gradC] = tf.grads((xs: tf.Tensor, c: tf.Tensor) =>
          fourierLinear(xs, c, spec, { strategy, rows }),
        )([xs, c], tf.tensor2d(gradY, [6, 12])) as [tf.Tensor, tf.Tensor]
        expectClose(gradX.dataSync(), expected.x)
        expectClose(
          gradC.dataSync(),
          expected.coefficients.flatMap((c) => Array.from(c)),
        )
      })
    })

    it('adds several adapters', () => {
      const layers = [makeLayer(12, 20, 15, 1), makeLayer(12, 20, 15, 2)]
      const x = normals(3 * 20, 4)
      tf.tidy(() => {
        const c = tf.stack(layers.map((layer) => tf.tensor1d(Float32Array.from(layer.coefficients))))
        const y = fourierLinear(tf.tensor2d(x, [3, 20]), c, layers[0], { strategy })
        expectClose(y.dataSync(), referenceForward(layers, x))
      })
    })

    it('accepts activations of any rank', () => {
      const layer = makeLayer(12, 20, 15, 1)
      const x = normals(2 * 3 * 20, 4)
      tf.tidy(() => {
        const y = fourierLinear(
          tf.tensor3d(x, [2, 3, 20]),
          tf.tensor1d(Float32Array.from(layer.coefficients)),
          layer,
          {
            strategy,
          },
        )
        expect(y.shape).toEqual([2, 3, 12])
        expectClose(y.dataSync(), referenceForward([layer], x))
      })
    })

    it('has the same number of tensors after 1,000 steps as after one', () => {
      const layer = makeLayer(6, 8, 5, 1)
      const c = tf.variable(tf.tensor1d(Float32Array.from(layer.coefficients)))
      const x = tf.randomNormal([2, 8])
      const step = () => {
        const { value, grads } = tf.variableGrads(
          () => tf.sum(fourierLinear(x, c, layer, { strategy })) as tf.Scalar,
          [c],
        )
        tf.dispose([value, grads])
        fourierLinear(x, c, layer, { strategy }).dispose()
      }
      step()
      const before = tf.memory().numTensors
      for (let i = 0; i < 1000; i++) step()
      expect(tf.memory().numTensors).toBe(before)
      tf.dispose([x, c])
    })
  })

  it('frees its tables, and computes them again when needed', () => {
    disposeTables()
    const layer = makeLayer(6, 8, 5, 1)
    const before = tf.memory().numTensors
    const run = () =>
      tf.tidy(() => fourierLinear(tf.ones([1, 8]), tf.ones([5]), layer, { strategy: 'factored' }).dataSync())
    const first = run()
    expect(tf.memory().numTensors).toBeGreaterThan(before)
    disposeTables()
    expect(tf.memory().numTensors).toBe(before)
    expect(run()).toEqual(first)
  })

  it('rejects invalid arguments', () => {
    const layer = makeLayer(6, 8, 5, 1)
    const code = (run: () => unknown) => {
      try {
        tf.tidy(() => void run())
      } catch (error) {
        return FourierFTError.isInstance(error) ? error.code : error
      }
      return 'nothing thrown'
    }
    expect(code(() => fourierLinear(tf.ones([2, 6]), tf.ones([5]), layer))).toBe('SHAPE_MISMATCH')
    expect(code(() => fourierLinear(tf.ones([2, 8]), tf.ones([6]), layer))).toBe('SHAPE_MISMATCH')
    expect(code(() => fourierLinear(tf.ones([2, 8]), tf.scalar(1), layer))).toBe('SHAPE_MISMATCH')
    expect(code(() => fourierLinear(tf.ones([2, 8], 'int32'), tf.ones([5]), layer))).toBe('UNSUPPORTED_DTYPE')
    expect(code(() => fourierLinear(tf.ones([2, 8]), tf.ones([5]), layer, { rows: [0] }))).toBe(
      'SHAPE_MISMATCH',
    )
    expect(code(() => fourierLinear(tf.ones([2, 8]), tf.ones([5]), layer, { rows: [0, 1] }))).toBe(
      'INVALID_OPTION',
    )
    expect(
      code(() => fourierLinear(tf.ones([2, 8]), tf.ones([5]), layer, { strategy: 'merge' as 'dense' })),
    ).toBe('UNSUPPORTED')
  })
})
