/**
 * Chooses the fastest way to apply an adapter in plain TypeScript, by size. Times are estimated as counts of operations times measured
 * nanoseconds, so that the choice depends on the lengths themselves: a prime length, for example, has slow transforms.
 *
 * The nanoseconds were measured with `node apps/bench/dist/main.js core` (section "strategies", which also shows how far `auto` is from
 * the best of the three): Node 20.20, AMD EPYC of family 26, one thread, the shortest of repeated runs. The usual choice is `spectral`;
 * `dense` wins for layers below about 64×64 with many tokens and many entries, `factored` for one or two entries, and for some more at
 * prime lengths.
 */
import type { Shape } from '../entries/entries.js'
import { complexFftTime } from './complex-fft.js'
import { halfLength } from './real-transform.js'

/** The strategies of `addForward` and `addBackward`. */
export type TransformStrategy = 'dense' | 'factored' | 'spectral'

/**
 * Returns the fastest strategy for one forward pass. A backward pass has the same parts, so the same strategy is fastest.
 *
 * @param size.tokens number of tokens that share one ΔW
 * @param size.n number of distinct entries in the layers of one token
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
  // The factor is above 1 because a backward pass transforms twice: it forms ΔW, and applies the adjoint to the gradient.
  const formDelta = 1.3 * (3000 + halfLength(d1) * (transformTime(d2) + 4 * Math.min(n, d2) + 2 * d2))
  const dense = formDelta + tokens * (30 + 3 * (d1 + d2) + 0.38 * d1 * d2)
  if (dense < spectral && dense < factored) return 'dense'
  return factored < spectral ? 'factored' : 'spectral'
}

/** Estimates the nanoseconds of one fast real transform, including loads and stores. */
function transformTime(length: number): number {
  return 15 + 2 * length + complexFftTime(length % 2 === 0 ? length / 2 : length)
}

/** Estimates the nanoseconds of the direct sums at the frequencies of `n` entries. */
function directTime(length: number, n: number): number {
  return length * (2.4 + 1.7 * Math.min(n, halfLength(length)))
}
