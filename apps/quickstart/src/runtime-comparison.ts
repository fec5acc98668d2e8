/**
 * Compares the results of one adapter in several runtimes. The expected labels come from the runtime that trained the adapter, the expected
 * logits from core, which computes in float64.
 */
import type { DigitSet } from './digits.js'
import { largestDifference } from './largest-difference.js'
import { roundingLimit } from './rounding-limit.js'
import { predictions, score } from './score.js'
import type { VisionTransformerConfig } from './vision-transformer.js'

/** The results of a runtime. */
export interface RuntimeRun {
  readonly runtime: string
  /** `[count, classes]` */
  readonly logits: ArrayLike<number>
  /** Time for each digit. */
  readonly milliseconds: number
}

/** A runtime that is not available on this machine. */
export interface MissingRuntime {
  readonly runtime: string
  readonly reason: string
}

export interface RuntimeComparison {
  readonly runtime: string
  readonly accuracy: number
  /** Number of digits with the label of the runtime that trained the adapter. */
  readonly sameLabels: number
  /** Largest difference from core's logits. */
  readonly difference: number
  /** The difference that rounding to float32 can cause: see `roundingLimit`. */
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

/** Returns one result for each runtime: core, the runtime that trained the adapter, and the others in their order. */
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
