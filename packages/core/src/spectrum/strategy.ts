/** Which way of applying an adapter is fastest for a given size, in plain TypeScript. */
import type { Shape } from '../entries/entries.js'

/** The strategies that `addForward` and `addBackward` know. */
export type TransformStrategy = 'dense' | 'factored' | 'spectral'

export function chooseStrategy(size: {
  readonly tokens: number
  readonly shape: Shape
  readonly n: number
}): TransformStrategy {
  const [d1, d2] = size.shape
  return size.n <= 0.5 * Math.log2(d1 * d2) ? 'factored' : 'spectral'
}
