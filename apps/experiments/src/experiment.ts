/** What an experiment is to the command line: a name, a run, and a report that is printed, drawn and kept. */
import type { Spec } from 'vega'

export interface RunOptions {
  readonly seeds: readonly number[]
  /** Shows that everything works and says nothing about the methods: little data, few steps. */
  readonly quick: boolean
}

export interface Report {
  /** The header and the rows of a table. */
  readonly table: readonly (readonly string[])[]
  readonly figure: Spec
}

export interface Experiment {
  /** Its command, and the name of its files. */
  readonly name: string
  /** What it repeats. */
  readonly title: string
  readonly seeds: readonly number[]
  run(options: RunOptions): Promise<Report>
}
