/** Which way of applying an adapter is fastest in TensorFlow.js for a given size. */
import type { Shape } from '@fourierft/core'
import { getBackend } from '@tensorflow/tfjs-core'
import { hasNativeKernel } from './native.js'

/** The strategies that `fourierLinear` knows. */
export type TfjsStrategy = 'dense' | 'factored' | 'spectral' | 'native'

export interface LinearSize {
  readonly tokens: number
  readonly shape: Shape
  readonly n: number
}

/**
 * Nanoseconds of one multiply-add of the dense product on backends that compute in the memory of the host. Measured beside the two
 * rates below at d = 16 … 768, n = 64 … 1000, T = 1 … 2048; the choice depends on their ratios alone.
 */
const HOST_PRODUCT: Readonly<Record<string, number>> = { wasm: 0.04, cpu: 1 }

/** Nanoseconds that `core`'s transforms take for each feature of a token (both sides), and for each entry. */
const HOST_SPECTRAL = 6

/** Nanoseconds that `core` takes for each number of ΔW. */
const HOST_DELTA = 14

/** The fastest strategy on the current backend. */
export function chooseStrategy(size: LinearSize): TfjsStrategy {
  // Ahead of all others at every size that was measured.
  if (hasNativeKernel()) return 'native'
  const product = HOST_PRODUCT[getBackend()]
  return product === undefined ? fewestMultiplications(size) : cheapestOnHost(size, product)
}

/** There `factored` is never ahead: its products cost more than the transforms. */
function cheapestOnHost({ tokens, shape: [d1, d2], n }: LinearSize, product: number): TfjsStrategy {
  const spectral = tokens * HOST_SPECTRAL * (d1 + d2 + n)
  const dense = d1 * d2 * (HOST_DELTA + tokens * product)
  return spectral <= dense ? 'spectral' : 'dense'
}

/**
 * By multiply-adds, for devices that nobody has measured yet. The portable body's outer products take about `2d·√d` each, its inner ones
 * as much again; half of its time goes into operators that multiply nothing.
 */
function fewestMultiplications({ tokens, shape: [d1, d2], n }: LinearSize): TfjsStrategy {
  const costs: Readonly<Record<Exclude<TfjsStrategy, 'native'>, number>> = {
    factored: tokens * 2 * n * (d1 + d2),
    dense: (tokens + 2 * n) * d1 * d2,
    spectral: 2 * tokens * (4 * (d1 ** 1.5 + d2 ** 1.5) + 4 * n),
  }
  const strategies = Object.keys(costs) as (keyof typeof costs)[]
  return strategies.reduce((best, strategy) => (costs[strategy] < costs[best] ? strategy : best))
}
