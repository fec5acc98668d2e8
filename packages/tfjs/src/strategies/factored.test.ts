import { referenceDelta, uniformEntries } from '@fourierft/core'
import * as tf from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, it } from 'vitest'
import { useBackend } from '../__fixtures__/use-backend.js'
import '../fourier-linear.js'
import { TableCache } from '../table-cache.js'
import { factoredKernel } from './factored.js'

/** The form of `dense` for GPUs, called directly: on cpu and wasm `dense` computes ΔW in JavaScript's memory. */
describe.each(['cpu', 'wasm'] as const)('factoredKernel on %s', (backend) => {
  beforeAll(() => useBackend(backend))

  it('computes ΔWᵀ, and the adjoint as its gradient', () => {
    const [d1, d2, n] = [14, 9, 30] as const
    const entries = uniformEntries({ shape: [d1, d2], n, seed: 3 })
    const tables = new TableCache()
    const coefficients = Float32Array.from({ length: n }, (_, l) => Math.cos(l))
    const weights = Float32Array.from({ length: d1 * d2 }, (_, i) => Math.sin(i))
    const layer = { name: 'layer', shape: [d1, d2] as const, entries, coefficients, scaling: d1 * d2 }
    const delta = referenceDelta(layer)
    tf.tidy(() => {
      const kernel = (c: tf.Tensor) => factoredKernel(c, entries, tables)
      const values = tf.transpose(kernel(tf.tensor1d(coefficients))).dataSync()
      // Sums of 60 products of numbers up to 1, each rounded to float32: at most 60 · 60 · 2⁻²⁴.
      const limit = 60 * 60 * 2 ** -24
      values.forEach((value, i) => {
        expect(Math.abs(value - delta[i])).toBeLessThan(limit)
      })
      const gradient = tf.transpose(tf.tensor2d(weights, [d1, d2]))
      const byEntry = tf.grad(kernel)(tf.tensor1d(coefficients), gradient).dataSync()
      for (let l = 0; l < n; l++) {
        const unit = Float32Array.from({ length: n }, (_, other) => (other === l ? 1 : 0))
        const expected = referenceDelta({ ...layer, coefficients: unit })
        const sum = expected.reduce((total, value, i) => total + value * weights[i], 0)
        expect(Math.abs(byEntry[l] - sum)).toBeLessThan(d1 * d2 * 60 * 2 ** -24)
      }
    })
    tables.dispose()
  })
})
