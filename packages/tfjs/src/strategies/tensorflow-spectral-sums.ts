/**
 * The sums that `tensorflowSpectral` computes, as lists of indices: the numbers of the input's half spectrum that contribute to each number
 * of the output's half spectrum, each with its coefficient and factor. This file uses no tensors.
 */
import type { Entries } from '@fourierft/core'

/** The terms of the sums, sorted by `target`. A half spectrum has row `2f` for the real part of frequency `f` and row `2f + 1` for the imaginary part. */
export interface Contributions {
  /** Row of the input's half spectrum. */
  readonly source: Int32Array
  /** `l`: the entry whose coefficient multiplies it. */
  readonly entry: Int32Array
  /** The sign, times a correction for the omitted half of the spectrum and for the division by `d` in the inverse FFT. */
  readonly factors: Float32Array
  /** Row of the output's half spectrum. The last row always occurs, with factor 0 if necessary. */
  readonly target: Int32Array
}

/** Lists the contributions. @param direction `forward`: from frequencies `k` of `d2` to frequencies `j` of `d1`; `adjoint`: the other way */
export function contributions(
  { n, shape: [d1, d2], rows, columns }: Entries,
  direction: 'forward' | 'adjoint',
): Contributions {
  const [from, to, fromLength, toLength] =
    direction === 'forward' ? [columns, rows, d2, d1] : [rows, columns, d1, d2]
  const half = Math.floor(toLength / 2)
  const terms: { source: number; entry: number; factor: number; target: number }[] = []
  for (let l = 0; l < n; l++) {
    const [k, j] = [from[l], to[l]]
    const [isUpperK, isUpperJ] = [2 * k > fromLength, 2 * j > toLength]
    const source = 2 * (isUpperK ? fromLength - k : k)
    const target = 2 * (isUpperJ ? toLength - j : j)
    // Frequencies 0 and d/2 are their own conjugates, so they are real and occur once in the full spectrum.
    const isReal = j === 0 || 2 * j === toLength
    const factor = isReal ? toLength : toLength / 2
    terms.push({ source, entry: l, factor, target })
    if (!isReal) {
      const sign = isUpperK === isUpperJ ? -1 : 1
      terms.push({ source: source + 1, entry: l, factor: sign * factor, target: target + 1 })
    }
  }
  const last = 2 * half + 1
  if (!terms.some(({ target }) => target === last))
    terms.push({ source: 0, entry: 0, factor: 0, target: last })
  terms.sort((a, b) => a.target - b.target)
  return {
    source: Int32Array.from(terms, ({ source }) => source),
    entry: Int32Array.from(terms, ({ entry }) => entry),
    factors: Float32Array.from(terms, ({ factor }) => factor),
    target: Int32Array.from(terms, ({ target }) => target),
  }
}

/** The sums in two steps, each of which adds a fixed number of terms. */
export interface Slots {
  /** `[C, width]`: contributions to one target each, padded with factors of 0. */
  readonly parts: Omit<Contributions, 'target'>
  readonly width: number
  /** `[rows of the output, partsPerRow]`: the parts that are added for each row, padded with the last part, which is 0. */
  readonly rowParts: Int32Array
  readonly partsPerRow: number
}

/** Divides the sums into two steps. Both widths are near the square root of the largest number of contributions to one target, so that padding stays small. */
export function inSlots({ source, entry, factors, target }: Contributions): Slots {
  const outputs = (target.at(-1) as number) + 1
  const counts = new Int32Array(outputs)
  for (const row of target) counts[row] = counts[row] + 1
  const largest = counts.reduce((most, count) => Math.max(most, count), 1)
  const width = Math.ceil(Math.sqrt(largest))
  const partsPerRow = Math.ceil(largest / width)
  const partCount = counts.reduce((total, count) => total + Math.ceil(count / width), 0)
  const parts = {
    source: new Int32Array((partCount + 1) * width),
    entry: new Int32Array((partCount + 1) * width),
    factors: new Float32Array((partCount + 1) * width),
  }
  const rowParts = new Int32Array(outputs * partsPerRow).fill(partCount)
  let [contribution, part] = [0, 0]
  counts.forEach((count, row) => {
    for (let i = 0; i < count; i++, contribution++) {
      const slot = part * width + i
      parts.source[slot] = source[contribution]
      parts.entry[slot] = entry[contribution]
      parts.factors[slot] = factors[contribution]
    }
    for (let i = 0; i * width < count; i++, part++) rowParts[row * partsPerRow + i] = part
  })
  return { parts, width, rowParts, partsPerRow }
}
