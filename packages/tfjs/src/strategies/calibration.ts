/** What a device took for each strategy, and the choice that follows. Numbers alone: `calibrate` measures them. */
import type { LinearSize, TfjsStrategy } from './strategy.js'

/** One size, and the milliseconds of one forward pass with each strategy. */
export interface MeasuredSize extends LinearSize {
  readonly milliseconds: Readonly<Partial<Record<TfjsStrategy, number>>>
}

/** Measured on one device; plain data, that JSON keeps. */
export interface Calibration {
  /** Name of the TensorFlow.js backend. */
  readonly backend: string
  readonly sizes: readonly MeasuredSize[]
}

/**
 * The fastest of `strategies`, or undefined where none was measured. The layer that is nearest in shape and n decides, all of them by their
 * ratios; times between two numbers of tokens are interpolated, and beyond them the last ones hold.
 */
export function fastestStrategy(
  { sizes }: Calibration,
  size: LinearSize,
  strategies: readonly TfjsStrategy[],
): TfjsStrategy | undefined {
  const nearest = smallest(sizes, (measured) => distance(measured, size))
  if (nearest === undefined) return undefined
  const sameLayer = sizes
    .filter((measured) => distance(measured, nearest) === 0)
    .toSorted((a, b) => a.tokens - b.tokens)
  return smallest(strategies, (strategy) => timeAt(sameLayer, size.tokens, strategy))
}

/** In logarithms: 0 for layers of the same shape and n. */
function distance(a: LinearSize, b: LinearSize): number {
  const apart = (a: number, b: number) => Math.abs(Math.log(a / b))
  return apart(a.shape[0], b.shape[0]) + apart(a.shape[1], b.shape[1]) + apart(a.n, b.n)
}

/** Between sizes by the straight line through the logarithms; infinite where a strategy was not measured. */
function timeAt(sizes: readonly MeasuredSize[], tokens: number, strategy: TfjsStrategy): number {
  const time = (size: MeasuredSize | undefined) => size?.milliseconds[strategy] ?? Number.POSITIVE_INFINITY
  const below = sizes.findLast((size) => size.tokens <= tokens) ?? sizes[0]
  const above = sizes.find((size) => size.tokens >= tokens) ?? sizes.at(-1)
  if (below === undefined || above === undefined || below.tokens === above.tokens) return time(below)
  const way = Math.log(tokens / below.tokens) / Math.log(above.tokens / below.tokens)
  return time(below) ** (1 - way) * time(above) ** way
}

/** The first item with the smallest finite value. */
function smallest<T>(items: readonly T[], value: (item: T) => number): T | undefined {
  let best: T | undefined
  let least = Number.POSITIVE_INFINITY
  for (const item of items) {
    const its = value(item)
    if (its < least) [best, least] = [item, its]
  }
  return best
}
