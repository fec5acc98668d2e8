/**
 * Which way of applying an adapter is fastest for a given size, in plain TypeScript: estimates from counted operations and the
 * nanoseconds that each was measured to take, so that the crossovers follow the lengths (a prime length has no fast transform).
 *
 * Measured with `node apps/bench/dist/main.js core` (section "strategies", which also shows how far `auto` is from the best of the
 * three): Node 20.20, AMD EPYC of family 26, one thread, the shortest of repeated runs. In short: `spectral`, but for layers below about
 * 64×64 with many tokens and many entries (`dense`), and for one or two entries, more at prime lengths (`factored`).
 */
import type { Shape } from '../entries/entries.js'
import { complexFftTime } from './complex-fft.js'
import { halfLength } from './real-transform.js'

/** The strategies that `addForward` and `addBackward` know. */
export type TransformStrategy = 'dense' | 'factored' | 'spectral'

/**
 * The fastest strategy for one forward pass; a backward pass has the same parts and the same order.
 *
 * @param size.tokens T that share a ΔW
 * @param size.n distinct entries of all layers that a token meets
 */
export function chooseStrategy(size: {
  readonly tokens: number
  readonly shape: Shape
  readonly n: number
}): TransformStrategy {
  const { tokens, n } = size
  const [d1, d2] = size.shape
  const spectral = tokens * (transformTime(d1) + transformTime(d2) + 3.7 * n)
  const factored = tokens * (directTime(d1, n) + directTime(d2, n) + 3.7 * n)
  // A backward pass goes through ΔW twice, hence a little more than one forward pass costs.
  const formDelta = 1.3 * (3000 + halfLength(d1) * (transformTime(d2) + 4 * Math.min(n, d2) + 2 * d2))
  const dense = formDelta + tokens * (30 + 3 * (d1 + d2) + 0.38 * d1 * d2)
  if (dense < spectral && dense < factored) return 'dense'
  return factored < spectral ? 'factored' : 'spectral'
}

/** Nanoseconds of one fast real transform, load and store included. */
function transformTime(length: number): number {
  return 15 + 2 * length + complexFftTime(length % 2 === 0 ? length / 2 : length)
}

/** Nanoseconds of direct sums at all frequencies that n entries can use. */
function directTime(length: number, n: number): number {
  return length * (2.4 + 1.7 * Math.min(n, halfLength(length)))
}
