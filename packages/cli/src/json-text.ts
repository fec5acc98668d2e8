import { escapeUnprintable } from '@fourierft/core'

/**
 * The JSON that commands print, in one line. Numbers are unrounded. Integers that a double cannot hold (64-bit seeds) are strings of digits, so
 * that no reader rounds them. C1 control characters, which `JSON.stringify` does not escape, are escaped too.
 */
export function jsonText(value: unknown): string {
  const text = JSON.stringify(value, (_, item: unknown) => {
    if (typeof item !== 'bigint') return item
    const number = Number(item)
    return Number.isSafeInteger(number) ? number : item.toString()
  })
  return `${escapeUnprintable(text)}\n`
}
