/**
 * One adapter in several runtimes: whether all of them say the same about every digit. The runtime that trained it tells the labels; core,
 * which computes in float64, tells the logits.
 */
import type { DigitSet } from './digits.js'
import { largestDifference } from './largest-difference.js'
import { roundingLimit } from './rounding-limit.js'
import { predictions, score } from './score.js'
import type { VisionTransformerConfig } from './vision-transformer.js'

/** What a runtime said. */
export interface RuntimeRun {
  readonly runtime: string
  /** `[count, classes]` */
  readonly logits: ArrayLike<number>
  /** For each digit. */
  readonly milliseconds: number
}

/** A runtime that cannot be had here. */
export interface MissingRuntime {
  readonly runtime: string
  readonly reason: string
}

export interface RuntimeComparison {
  readonly runtime: string
  readonly accuracy: number
  /** Digits that it labels as the runtime does that trained the adapter. */
  readonly sameLabels: number
  /** Largest difference of any logit from core's. */
  readonly difference: number
  /** What rounding to float32 explains: see `roundingLimit`. */
  readonly limit: number
  readonly milliseconds: number
  /** All labels are the same, and the difference is within its limit. */
  readonly agrees: boolean
}

export interface ComparisonOptions {
  readonly core: RuntimeRun
  readonly trained: RuntimeRun
  readonly others: readonly (RuntimeRun | MissingRuntime)[]
  readonly digits: DigitSet
  readonly config: VisionTransformerConfig
}

/** One for each runtime: core, the one that trained, the others in their order. */
export function compareRuntimes({
  core,
  trained,
  others,
  digits: { count, labels },
  config,
}: ComparisonOptions): (RuntimeComparison | MissingRuntime)[] {
  const limit = roundingLimit(config, core.logits)
  const expected = predictions(trained.logits, count)
  return [core, trained, ...others].map((run) => {
    if ('reason' in run) return run
    const { runtime, logits, milliseconds } = run
    const predicted = predictions(logits, count)
    const sameLabels = predicted.filter((label, digit) => label === expected[digit]).length
    const difference = largestDifference(core.logits, logits)
    const { accuracy } = score(logits, labels)
    const agrees = sameLabels === count && difference <= limit
    return { runtime, accuracy, sameLabels, difference, limit, milliseconds, agrees }
  })
}
