/** Compares computed counts with the numbers that the paper prints. */
import type { ParameterCount, PublishedRow } from '@fourierft/core'

/** K and M of counts are decimal; KB and MB in the paper are mostly binary. */
const UNITS: Readonly<Record<string, number>> = { K: 1e3, M: 1e6, KB: 2 ** 10, MB: 2 ** 20 }

/** Returns a note with the numbers of the paper that differ from the computed ones; undefined if all agree to the last printed digit. */
export function paperDifference(count: ParameterCount, published: PublishedRow): string | undefined {
  const differences = [
    difference(count.parameters, published.parameters),
    difference(count.bytes, published.bytes),
  ].filter((note) => note !== undefined)
  return differences.length === 0 ? undefined : `the paper prints ${differences.join(', ')}`
}

function difference(computed: number, printed: string): string | undefined {
  const [, whole = '', fraction = '', unit = ''] = /^(\d+)(?:\.(\d+))?([KM]B?)$/.exec(printed) ?? []
  const scale = UNITS[unit] ?? Number.NaN
  const lastDigit = scale / 10 ** fraction.length
  const agrees = Math.abs(computed - Number(`${whole}.${fraction}`) * scale) < lastDigit
  return agrees ? undefined : `${printed} (computed: ${(computed / scale).toFixed(fraction.length)}${unit})`
}
