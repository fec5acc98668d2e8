import { escapeUnprintable } from '@fourierft/core'

/**
 * Returns the JSON that commands print, in one line. Numbers are not rounded. Integers that a double cannot hold (64-bit seeds) are strings of digits,
 * so that no JSON parser rounds them. C1 control characters are also escaped, which `JSON.stringify` does not do.
 */
export function jsonText(value: unknown): string {
  const text = JSON.stringify(value, (_, item: unknown) => {
    if (typeof item !== 'bigint') return item
    const number = Number(item)
    return Number.isSafeInteger(number) ? number : item.toString()
  })
  return `${escapeUnprintable(text)}\n`
}
