/** Formats tables as Markdown, and the numbers in them. */
import type { Spread } from '@fourierft/quickstart'

/** Formats a table as Markdown. The first row is the header. */
export function markdownTable([header = [], ...rows]: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  return [header, header.map(() => '---'), ...rows].map(line).join('\n')
}

/** Formats the mean and standard deviation of values between 0 and 1, in percent with one decimal. */
export const percentage = ({ mean, deviation }: Spread): string =>
  `${(100 * mean).toFixed(1)} ± ${(100 * deviation).toFixed(1)} %`

/** Formats a mean and a standard deviation with three decimals. */
export const decimal = ({ mean, deviation }: Spread): string => `${mean.toFixed(3)} ± ${deviation.toFixed(3)}`

export const count = (value: number): string => value.toLocaleString('en')
