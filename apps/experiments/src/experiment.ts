/** The interface between the experiments and `main.ts`. */
import type { Spec } from 'vega'

export interface RunOptions {
  readonly seeds: readonly number[]
  /** Uses little data and few steps: enough to test the program, too few to compare the methods. */
  readonly quick: boolean
}

export interface ExperimentOptions extends RunOptions {
  /** For results that a later run can continue from. */
  readonly folder: string
}

export interface Report {
  /** The header and the rows of a table. */
  readonly table: readonly (readonly string[])[]
  readonly figure: Spec
  /** More pictures. The keys are added to the names of their files. */
  readonly moreFigures?: Readonly<Record<string, Spec>>
}

export interface Experiment {
  /** The name of the command and of the files. */
  readonly name: string
  /** The figure or table that the experiment repeats, or its question. */
  readonly title: string
  readonly seeds: readonly number[]
  /** Starts the runtime. @returns its name and version */
  start(): Promise<string>
  run(options: ExperimentOptions): Promise<Report>
}
