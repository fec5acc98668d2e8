/** Formats the table of all runtimes: a row for each, and the reason for each that is not available. */
import { alignColumns } from './align-columns.js'
import { formatBytes } from './format-bytes.js'
import type { MissingRuntime, RuntimeComparison } from './runtime-comparison.js'

/**
 * @param comparisons the first is core, with which the others are compared
 * @param count number of digits
 * @param bytes size of the adapter file that all runtimes read
 */
export function runtimeTable(
  comparisons: readonly (RuntimeComparison | MissingRuntime)[],
  count: number,
  bytes: number,
): string {
  const header = [
    'runtime',
    'adapter',
    'test accuracy',
    'same labels',
    'logits differ by',
    'allowed',
    'each digit',
  ]
  const rows = comparisons.flatMap((row, index) =>
    'reason' in row
      ? []
      : [
          [
            row.runtime,
            formatBytes(bytes),
            `${(100 * row.accuracy).toFixed(1)} %`,
            `${row.sameLabels.toLocaleString('en')} of ${count.toLocaleString('en')}`,
            ...(index === 0 ? ['–', '–'] : [row.difference.toExponential(1), row.limit.toExponential(1)]),
            `${row.milliseconds.toFixed(2)} ms`,
          ],
        ],
  )
  const missing = comparisons.flatMap((row) =>
    'reason' in row ? [`${row.runtime}: not run (${row.reason})`] : [],
  )
  return [alignColumns([header, ...rows]), ...missing].join('\n')
}
