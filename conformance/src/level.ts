/** A level: a title, and a function that runs checks on a backend. */
import type { Backend } from '@fourierft/core/conformance'
import type { LevelNumber } from './report.js'
import type { Vectors } from './vectors.js'

export interface LevelContext {
  readonly backend: Backend
  readonly vectors: Vectors
  /** Whether to omit the large cases. */
  readonly quick: boolean
  /**
   * Records a check. It passes if `measure` returns a number `≤ limit`, and fails if `measure` returns a larger number or NaN, or throws.
   * Never rejects, so that the checks after it run.
   */
  check(name: string, limit: number, measure: () => number | Promise<number>): Promise<void>
  /** Records a gap: a check that cannot run, because the backend lacks what it needs. */
  skip(name: string, reason: string): void
}

export interface Level {
  readonly level: LevelNumber
  readonly title: string
  /** Set if the level tests gradients. `Backend.trainable` declares who can use them: users, only the suite, or nobody. */
  readonly trains?: true
  run(context: LevelContext): Promise<void>
}
