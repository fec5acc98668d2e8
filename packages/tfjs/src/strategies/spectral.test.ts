import { referenceBackward, referenceForward, uniformEntries } from '@fourierft/core'
import * as tf from '@tensorflow/tfjs-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { useBackend } from '../__fixtures__/use-backend.js'
import '../fourier-linear.js'
import { TableCache } from '../table-cache.js'
import { portableSpectral } from './spectral.js'

/** Rounded tables and sums of float32, four products one after the other: the bound of the conformance suite. */
const TOLERANCE = 1e-5

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>): void {
  expect(actual.length).toBe(expected.length)
  const largest = Math.max(...Array.from(expected, Math.abs))
  const worst = Math.max(...Array.from(expected, (value, i) => Math.abs((actual[i] as number) - value)))
  expect(worst).toBeLessThanOrEqual(TOLERANCE * largest)
}

/** The form for devices: on cpu and wasm `fourierLinear` prefers the memory of the host, so it is called here itself. */
describe.each(['cpu', 'wasm'] as const)('portableSpectral on %s', (backend) => {
  beforeAll(() => useBackend(backend))
  const tables = new TableCache()
  afterAll(() => tables.dispose())

  it.each([
    [1, 1, 1, 2],
    [16, 16, 256, 1],
    [24, 36, 40, 7],
    [13, 31, 50, 3],
    [96, 64, 400, 5],
    [2, 45, 30, 4],
  ])('[%i, %i], n = %i, T = %i: forward and backward, for all and by row', (d1, d2, n, tokens) => {
    const entries = uniformEntries({ shape: [d1, d2], n, seed: 3 })
    const normals = (length: number, seed: number) =>
      tf.tidy(() => tf.randomNormal([length], 0, 1, 'float32', seed).dataSync() as Float32Array).slice()
    const layers = [1, 2, 3].map((seed) => ({
      name: `${seed}`,
      shape: [d1, d2] as const,
      entries,
      coefficients: normals(n, seed),
      scaling: d1 * d2,
    }))
    const x = normals(tokens * d2, 4)
    const gradY = normals(tokens * d1, 5)
    const mixed = Int32Array.from({ length: tokens }, (_, t) => (t % 4) - 1)
    for (const rows of [undefined, mixed]) {
      const used = rows ? layers : layers.slice(0, 1)
      const options = rows && { rows }
      const expected = referenceBackward(used, x, gradY, options)
      tf.tidy(() => {
        const xs = tf.tensor2d(x, [tokens, d2])
        const c = tf.tensor(
          Float32Array.from(used.flatMap(({ coefficients }) => [...coefficients])),
          rows ? [3, n] : [n],
        )
        const run = (x: tf.Tensor, c: tf.Tensor) =>
          portableSpectral({ x: x as tf.Tensor2D, c, rows, entries, tables })
        expectClose(run(xs, c).dataSync(), referenceForward(used, x, undefined, options))
        const [gradX, gradC] = tf.grads(run)([xs, c], tf.tensor2d(gradY, [tokens, d1])) as [
          tf.Tensor,
          tf.Tensor,
        ]
        expectClose(gradX.dataSync(), expected.x)
        expectClose(
          gradC.dataSync(),
          expected.coefficients.flatMap((c) => [...c]),
        )
      })
    }
  })
})
