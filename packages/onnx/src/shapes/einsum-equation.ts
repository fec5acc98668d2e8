/** The equation of an `Einsum`, with a letter for each axis: `...qhd,...khd->...hqk` of five axes each is `ABqhd,ABkhd->ABhqk`. */

export interface EinsumEquation {
  /** One letter for each axis of an input. */
  readonly terms: readonly string[]
  readonly result: string
}

const ELLIPSIS = '...'
const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'

/**
 * @param ranks the numbers of axes of the inputs, which are needed only for `...`
 * @returns undefined for an equation without `->`, or whose `...` has an unknown number of axes or more than there are letters
 */
export function readEquation(
  text: string | undefined,
  ranks: readonly (number | undefined)[],
): EinsumEquation | undefined {
  const [left = '', right] = (text ?? '').replaceAll(/\s/g, '').split('->')
  if (right === undefined) return undefined
  const terms = left.split(',')
  const widths = terms.map((term, i) =>
    term.includes(ELLIPSIS) ? (ranks[i] ?? Number.NaN) - (term.length - ELLIPSIS.length) : 0,
  )
  const width = Math.max(...widths)
  const free = [...LETTERS].filter((letter) => !left.includes(letter))
  if (!widths.every((one) => one >= 0) || width > free.length) return undefined
  const ellipsis = free.slice(0, width).join('')
  // Broadcasting aligns the last axes.
  const named = (term: string, axes: number) => term.replace(ELLIPSIS, ellipsis.slice(width - axes))
  return { terms: terms.map((term, i) => named(term, widths[i])), result: named(right, width) }
}
