/**
 * Writes JSON as Python's `json.dumps(value, indent=2, sort_keys=True)`, so that files equal PEFT's byte for byte. This is not a general
 * serialiser: it has only the parts that a configuration needs.
 *
 * @see https://docs.python.org/3/library/json.html
 */

/** Writes a string literal with all characters outside ASCII escaped, as with `ensure_ascii=True`. */
export function pythonString(value: string): string {
  // Below DEL (U+007F), JSON.stringify escapes the same characters as Python, in the same way. It also escapes lone surrogates.
  return JSON.stringify(value).replace(
    /[\u007f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/**
 * Writes a number as the `repr` of a Python float: the shortest digits that read back as the same number, always with a point or an
 * exponent (`150.0`). Exponents have at least two digits and are used below 1e-4 and from 1e16 on.
 *
 * @param value finite
 */
export function pythonFloat(value: number): string {
  const [mantissa = '', exponentText = '0'] = value.toExponential().split('e')
  const sign = Object.is(value, -0) || value < 0 ? '-' : ''
  const digits = mantissa.replace(/[-.]/g, '')
  const exponent = Number(exponentText)
  if (exponent < -4 || exponent >= 16) {
    const fraction = digits.length > 1 ? `.${digits.slice(1)}` : ''
    const size = String(Math.abs(exponent)).padStart(2, '0')
    return `${sign}${digits[0]}${fraction}e${exponent < 0 ? '-' : '+'}${size}`
  }
  if (exponent < 0) return `${sign}0.${'0'.repeat(-exponent - 1)}${digits}`
  const integer = digits.slice(0, exponent + 1).padEnd(exponent + 1, '0')
  return `${sign}${integer}.${digits.slice(exponent + 1) || '0'}`
}

/** Writes a list of literals, each on its own line, indented for a depth of `depth` levels. */
export function pythonList(literals: readonly string[], depth: number): string {
  return block('[', literals, ']', depth)
}

/** Writes an object of keys and literals, indented for a depth of `depth` levels. */
export function pythonObject(members: Iterable<readonly [string, string]>, depth: number): string {
  const lines = [...members].map(([key, literal]) => `${pythonString(key)}: ${literal}`)
  return block('{', lines, '}', depth)
}

/** Sorts members as `sort_keys=True` does. */
export function sortedByKey<T>(members: Iterable<readonly [string, T]>): (readonly [string, T])[] {
  return [...members].sort(([a], [b]) => comparePythonStrings(a, b))
}

/** Compares strings in Python's order, by code point. JavaScript's `<` compares UTF-16 units, which differs beyond U+FFFF. */
export function comparePythonStrings(a: string, b: string): number {
  const [left, right] = [[...a], [...b]]
  for (let i = 0; i < Math.min(left.length, right.length); i++) {
    const difference = (left[i]?.codePointAt(0) ?? 0) - (right[i]?.codePointAt(0) ?? 0)
    if (difference !== 0) return difference
  }
  return left.length - right.length
}

function block(open: string, items: readonly string[], close: string, depth: number): string {
  if (items.length === 0) return open + close
  const indent = '  '.repeat(depth)
  return `${open}\n${items.map((item) => `${indent}  ${item}`).join(',\n')}\n${indent}${close}`
}
