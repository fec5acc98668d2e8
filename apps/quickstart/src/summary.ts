/** Combines the runs of one method, one for each seed, into one row: mean and standard deviation. */
import type { CurvePoint, Run } from './experiment.js'
import type { Score } from './score.js'

/** Mean and sample standard deviation; the deviation of a single value is 0. */
export interface Spread {
  readonly mean: number
  readonly deviation: number
}

export interface Summary {
  readonly method: string
  readonly parameters: number
  readonly bytes: number
  readonly accuracy: Spread
  readonly loss: Spread
  readonly seconds: Spread
  readonly curve: readonly { readonly step: number; readonly loss: Spread }[]
}

/** @returns undefined without runs */
export function summarize(runs: readonly Run[]): Summary | undefined {
  const [first] = runs
  if (first === undefined) return undefined
  const at = (index: number, value: (point: CurvePoint) => number) =>
    spread(runs.flatMap(({ curve }) => curve.slice(index).slice(0, 1).map(value)))
  return {
    method: first.method,
    parameters: first.parameters,
    bytes: first.bytes,
    accuracy: at(-1, ({ accuracy }) => accuracy),
    loss: at(-1, ({ loss }) => loss),
    seconds: spread(runs.map(({ seconds }) => seconds)),
    curve: first.curve.map(({ step }, index) => ({ step, loss: at(index, ({ loss }) => loss) })),
  }
}

/** Returns the summary of the model without an adapter, which is the same at every step. */
export function frozenSummary({ loss, accuracy }: Score, steps: readonly number[]): Summary {
  const constant = (value: number): Spread => ({ mean: value, deviation: 0 })
  return {
    method: 'Frozen model',
    parameters: 0,
    bytes: 0,
    accuracy: constant(accuracy),
    loss: constant(loss),
    seconds: constant(0),
    curve: steps.map((step) => ({ step, loss: constant(loss) })),
  }
}

export function spread(values: readonly number[]): Spread {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0)
  return { mean, deviation: values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : 0 }
}
