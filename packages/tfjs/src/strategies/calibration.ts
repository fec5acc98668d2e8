/** The times of the strategies on one device, and the choice that follows from them. `calibrate` measures the times. */
import type { LinearSize, TfjsStrategy } from './strategy.js'

/** One size and, for each strategy, the milliseconds of a forward pass. */
export interface MeasuredSize extends LinearSize {
  readonly milliseconds: Readonly<Partial<Record<TfjsStrategy, number>>>
}

/** The measurements of one device: plain data that can be stored as JSON. */
export interface Calibration {
  /** Name of the TensorFlow.js backend. */
  readonly backend: string
  readonly sizes: readonly MeasuredSize[]
}

/**
 * Returns the fastest of `strategies`, or undefined if none was measured. The times are those of the measured layer whose shape and n are
 * nearest by ratio. They are interpolated between the measured numbers of tokens, and constant beyond them.
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

/** Returns a sum of logarithms of ratios: 0 for layers of the same shape and n. */
function distance(a: LinearSize, b: LinearSize): number {
  const logRatio = (a: number, b: number) => Math.abs(Math.log(a / b))
  return logRatio(a.shape[0], b.shape[0]) + logRatio(a.shape[1], b.shape[1]) + logRatio(a.n, b.n)
}

/** Interpolates linearly between the logarithms of the measured times; infinite if the strategy was not measured. */
function timeAt(sizes: readonly MeasuredSize[], tokens: number, strategy: TfjsStrategy): number {
  const time = (size: MeasuredSize | undefined) => size?.milliseconds[strategy] ?? Number.POSITIVE_INFINITY
  const below = sizes.findLast((size) => size.tokens <= tokens) ?? sizes[0]
  const above = sizes.find((size) => size.tokens >= tokens) ?? sizes.at(-1)
  if (below === undefined || above === undefined || below.tokens === above.tokens) return time(below)
  const weight = Math.log(tokens / below.tokens) / Math.log(above.tokens / below.tokens)
  return time(below) ** (1 - weight) * time(above) ** weight
}

/** Returns the first item with the smallest finite value. */
function smallest<T>(items: readonly T[], value: (item: T) => number): T | undefined {
  let best: T | undefined
  let least = Number.POSITIVE_INFINITY
  for (const item of items) {
    const current = value(item)
    if (current < least) [best, least] = [item, current]
  }
  return best
}
