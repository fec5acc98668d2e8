/**
 * What a half spectrum is multiplied and added up by, as lists: for each number of the output's half spectrum which numbers of the input's
 * lead to it, with which coefficient and factor. Host side of `tensorflowSpectral`; it knows no tensors.
 */
import type { Entries } from '@fourierft/core'

/** Sorted by `target`; a half spectrum has row `2f` for the real part of frequency `f` and row `2f + 1` for the imaginary part. */
export interface Contributions {
  /** Row of the input's half spectrum. */
  readonly source: Int32Array
  /** `l`: whose coefficient multiplies it. */
  readonly entry: Int32Array
  /** What else multiplies it: sign, and what makes up for the half that is left out and for the division by `d` in an inverse FFT. */
  readonly factors: Float32Array
  /** Row of the output's half spectrum. The last one occurs, with factor 0 if need be. */
  readonly target: Int32Array
}

/** @param direction `forward`: from frequencies `k` of `d2` to frequencies `j` of `d1`; `adjoint`: the other way */
export function contributions(
  { n, shape: [d1, d2], rows, columns }: Entries,
  direction: 'forward' | 'adjoint',
): Contributions {
  const [from, to, fromLength, toLength] =
    direction === 'forward' ? [columns, rows, d2, d1] : [rows, columns, d1, d2]
  const half = Math.floor(toLength / 2)
  const all: { source: number; entry: number; factor: number; target: number }[] = []
  for (let l = 0; l < n; l++) {
    const [k, j] = [from[l], to[l]]
    const [isUpperK, isUpperJ] = [2 * k > fromLength, 2 * j > toLength]
    const source = 2 * (isUpperK ? fromLength - k : k)
    const target = 2 * (isUpperJ ? toLength - j : j)
    // These are their own conjugates: real, and not counted twice.
    const isReal = j === 0 || 2 * j === toLength
    const factor = isReal ? toLength : toLength / 2
    all.push({ source, entry: l, factor, target })
    if (!isReal) {
      const sign = isUpperK === isUpperJ ? -1 : 1
      all.push({ source: source + 1, entry: l, factor: sign * factor, target: target + 1 })
    }
  }
  const last = 2 * half + 1
  if (!all.some(({ target }) => target === last)) all.push({ source: 0, entry: 0, factor: 0, target: last })
  all.sort((a, b) => a.target - b.target)
  return {
    source: Int32Array.from(all, ({ source }) => source),
    entry: Int32Array.from(all, ({ entry }) => entry),
    factors: Float32Array.from(all, ({ factor }) => factor),
    target: Int32Array.from(all, ({ target }) => target),
  }
}

/** The same sums in two steps of a fixed number of rows each. */
export interface Slots {
  /** `[C, width]`: rows of the same target, filled up with factors of 0; `target` of the filled is that of its part. */
  readonly parts: Omit<Contributions, 'target'>
  readonly width: number
  /** `[rows of the output, placeWidth]`: which sums of `parts` are added for each row; the last part is 0 and fills up. */
  readonly place: Int32Array
  readonly placeWidth: number
}

/** Widths near the square root of the most rows that any target has, so that neither step is much larger than need be. */
export function inSlots({ source, entry, factors, target }: Contributions): Slots {
  const outputs = (target.at(-1) as number) + 1
  const counts = new Int32Array(outputs)
  for (const row of target) counts[row] = counts[row] + 1
  const most = counts.reduce((most, count) => Math.max(most, count), 1)
  const width = Math.ceil(Math.sqrt(most))
  const placeWidth = Math.ceil(most / width)
  const partCount = counts.reduce((total, count) => total + Math.ceil(count / width), 0)
  const parts = {
    source: new Int32Array((partCount + 1) * width),
    entry: new Int32Array((partCount + 1) * width),
    factors: new Float32Array((partCount + 1) * width),
  }
  const place = new Int32Array(outputs * placeWidth).fill(partCount)
  let [at, part] = [0, 0]
  counts.forEach((count, row) => {
    for (let i = 0; i < count; i++, at++) {
      const slot = part * width + i
      parts.source[slot] = source[at]
      parts.entry[slot] = entry[at]
      parts.factors[slot] = factors[at]
    }
    for (let i = 0; i * width < count; i++, part++) place[row * placeWidth + i] = part
  })
  return { parts, width, place, placeWidth }
}
