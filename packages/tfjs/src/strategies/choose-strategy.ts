/** Which way of applying an adapter is fastest in TensorFlow.js for a given size. */
import type { Shape } from '@fourierft/core'

/** The strategies that `fourierLinear` knows. */
export type TfjsStrategy = 'dense' | 'factored' | 'spectral'

export interface LinearSize {
  readonly tokens: number
  readonly shape: Shape
  readonly n: number
}

/**
 * By multiply-adds: `factored` takes `2n·(d1 + d2)` for each token; `dense` takes `d1·d2` for each token and `2n·d1·d2` once for ΔW.
 */
export function chooseStrategy({ tokens, shape: [d1, d2], n }: LinearSize): TfjsStrategy {
  const factored = tokens * 2 * n * (d1 + d2)
  const dense = (tokens + 2 * n) * d1 * d2
  return factored <= dense ? 'factored' : 'dense'
}
