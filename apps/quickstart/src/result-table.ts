/** The table of results: one row for each method. */
import { alignColumns } from './align-columns.js'
import { formatBytes } from './format-bytes.js'
import type { Spread, Summary } from './summary.js'

export function resultTable(summaries: readonly Summary[]): string {
  const header = ['method', 'trained', 'on disk', 'test accuracy', 'test loss', 'training']
  const rows = summaries.map(({ method, parameters, bytes, accuracy, loss, seconds }) => [
    method,
    parameters.toLocaleString('en'),
    parameters === 0 ? '–' : formatBytes(bytes),
    `${plusMinus(accuracy, 1, 100)} %`,
    plusMinus(loss, 3),
    parameters === 0 ? '–' : `${seconds.mean.toFixed(1)} s`,
  ])
  return alignColumns([header, ...rows])
}

/** Formats a mean and its deviation; only the mean if there is a single run, as for the frozen model. */
const plusMinus = ({ mean, deviation }: Spread, digits: number, unit = 1): string => {
  const value = (unit * mean).toFixed(digits)
  return deviation === 0 ? value : `${value} ± ${(unit * deviation).toFixed(digits)}`
}
