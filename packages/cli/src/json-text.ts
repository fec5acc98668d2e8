import { escapeUnprintable } from '@fourierft/core'

/**
 * The JSON that commands print, one line for one value: numbers unrounded, and integers that a double cannot hold (64-bit seeds) as
 * strings of digits, so that no reader changes them silently. `JSON.stringify` itself leaves C1 control characters as they are.
 */
export function jsonText(value: unknown): string {
  const text = JSON.stringify(value, (_, item: unknown) => {
    if (typeof item !== 'bigint') return item
    const number = Number(item)
    return Number.isSafeInteger(number) ? number : item.toString()
  })
  return `${escapeUnprintable(text)}\n`
}
