/** The interface between the experiments and `main.ts`. */
import type { Spec } from 'vega'

export interface RunOptions {
  readonly seeds: readonly number[]
  /** Uses little data and few steps: enough to test the program, too few to compare the methods. */
  readonly quick: boolean
}

export interface Report {
  /** The header and the rows of a table. */
  readonly table: readonly (readonly string[])[]
  readonly figure: Spec
}

export interface Experiment {
  /** The name of the command and of the files. */
  readonly name: string
  /** The figure or table that the experiment repeats. */
  readonly title: string
  readonly seeds: readonly number[]
  run(options: RunOptions): Promise<Report>
}
