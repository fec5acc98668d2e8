/** A level: a title, and a function that runs checks on a backend. */
import type { Backend } from '@fourierft/core/conformance'
import type { LevelNumber } from './report.js'
import type { Vectors } from './vectors.js'

export interface LevelContext {
  readonly backend: Backend
  readonly vectors: Vectors
  /** Whether the large cases are left out. */
  readonly quick: boolean
  /**
   * Passes if `measure` returns a number `≤ limit`; fails for a larger one and for NaN, and with the error's message if it throws. Never
   * rejects, so that the checks after it run.
   */
  check(name: string, limit: number, measure: () => number | Promise<number>): Promise<void>
  /** Records a check that cannot run, because the backend lacks something or the suite cannot observe it. */
  skip(name: string, reason: string): void
}

export interface Level {
  readonly level: LevelNumber
  readonly title: string
  /** Whether the level is about gradients, which are for users, for the suite alone, or missing: `Backend.trainable`. */
  readonly trains?: true
  run(context: LevelContext): Promise<void>
}
