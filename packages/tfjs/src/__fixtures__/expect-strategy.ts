/** A check for tests: a strategy equals `core`'s reference, forward and in both gradients, with one adapter and with one for each token. */
import { type Entries, referenceBackward, referenceForward } from '@fourierft/core'
import * as tf from '@tensorflow/tfjs-core'
import { expect } from 'vitest'
import type { StrategyFunction } from '../strategies/strategy-function.js'
import type { TableCache } from '../table-cache.js'

/** The limit of the conformance suite, for rounded tables, sums in float32 and transforms in sequence. */
const TOLERANCE = 1e-5

/** `[d1, d2, n, T]`: squares, primes, sizes without a common divisor, many entries with one frequency, a 1×1 layer. */
export const LAYER_SIZES = [
  [1, 1, 1, 2],
  [16, 16, 256, 1],
  [24, 36, 40, 7],
  [13, 31, 50, 3],
  [96, 64, 400, 5],
  [2, 45, 30, 4],
] as const

export function expectStrategy(apply: StrategyFunction, entries: Entries, tokens: number, tables: TableCache): void {
  const { shape, n } = entries
  const [d1, d2] = shape
  const layers = [1, 2, 3].map((seed) => ({
    name: `${seed}`,
    shape,
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
      const values = Float32Array.from(used.flatMap(({ coefficients }) => [...coefficients]))
      const c = tf.tensor(values, rows ? [3, n] : [n])
      const run = (x: tf.Tensor, c: tf.Tensor) => apply({ x: x as tf.Tensor2D, c, rows, entries, tables })
      expectClose(run(xs, c), referenceForward(used, x, undefined, options))
      const [gradX, gradC] = tf.grads(run)([xs, c], tf.tensor2d(gradY, [tokens, d1]))
      expectClose(gradX, expected.x)
      expectClose(
        gradC,
        expected.coefficients.flatMap((c) => [...c]),
      )
    })
  }
}

function normals(length: number, seed: number): Float32Array {
  return tf.tidy(() => tf.randomNormal([length], 0, 1, 'float32', seed).dataSync() as Float32Array).slice()
}

function expectClose(tensor: tf.Tensor, expected: ArrayLike<number>): void {
  const actual = tensor.dataSync()
  expect(actual.length).toBe(expected.length)
  const largest = Math.max(...Array.from(expected, Math.abs))
  const worst = Math.max(...Array.from(expected, (value, i) => Math.abs(actual[i] - value)))
  expect(worst).toBeLessThanOrEqual(TOLERANCE * largest)
}
