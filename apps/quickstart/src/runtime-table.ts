/** The table of one adapter in all runtimes: one row for each, those that cannot be had here with the reason. */
import { alignColumns } from './align-columns.js'
import { formatBytes } from './format-bytes.js'
import type { MissingRuntime, RuntimeComparison } from './runtime-comparison.js'

/**
 * @param comparisons core's first: the others' logits are compared with it
 * @param count digits that were asked about
 * @param bytes of the file of the adapter, which all of them read
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
