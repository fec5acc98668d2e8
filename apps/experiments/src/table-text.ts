/** Formats tables as Markdown, and the numbers in them. */
import type { Spread } from '@fourierft/quickstart'

/** The first row is the header. */
export function markdownTable([header = [], ...rows]: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  return [header, header.map(() => '---'), ...rows].map(line).join('\n')
}

/** Mean and standard deviation of values between 0 and 1, in percent with one decimal. */
export const percentage = ({ mean, deviation }: Spread): string =>
  `${(100 * mean).toFixed(1)} ± ${(100 * deviation).toFixed(1)} %`

/** Mean and standard deviation with three decimals. */
export const decimal = ({ mean, deviation }: Spread): string => `${mean.toFixed(3)} ± ${deviation.toFixed(3)}`

export const count = (value: number): string => value.toLocaleString('en')
