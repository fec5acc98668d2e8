/** What a level is: a title and a function that puts checks to a backend. */
import type { Backend } from '@fourierft/core'
import type { LevelNumber } from './report.js'
import type { Vectors } from './vectors.js'

export interface LevelContext {
  readonly backend: Backend
  readonly vectors: Vectors
  /** Leave the large cases out. */
  readonly quick: boolean
  /**
   * Passes when `measure` returns a number `≤ limit`; fails for a larger one, for NaN, and with the message when it throws. Never
   * throws itself: the checks after it run.
   */
  check(name: string, limit: number, measure: () => number | Promise<number>): Promise<void>
  /** Something that the backend does not do, or that cannot be seen from here. */
  skip(name: string, reason: string): void
}

export interface Level {
  readonly level: LevelNumber
  readonly title: string
  run(context: LevelContext): Promise<void>
}
