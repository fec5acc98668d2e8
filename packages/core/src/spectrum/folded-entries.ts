/**
 * Folds entries into half spectra. Activations are real and only the real part of the result is kept, so frequencies above d/2 are
 * conjugates of those below: `X̂[d2−k] = conj X̂[k]`, and the conjugate of `G[d1−j]` may be added to `G[j]`. Folding leaves the real part of
 * each product unchanged and gives the imaginary part a sign: −1 if exactly one of `j` and `k` was folded.
 */
import type { Entries } from '../entries/entries.js'
import { halfLength } from './real-transform.js'

export interface FoldedEntries {
  /** `min(j, d1 − j)` */
  readonly rows: Int32Array
  /** `min(k, d2 − k)` */
  readonly columns: Int32Array
  /** The sign of the imaginary part, ±1. */
  readonly signs: Float64Array
}

/** A cache. Entries are immutable, so their folded form stays valid. */
const foldedByEntries = new WeakMap<Entries, FoldedEntries>()

export function foldEntries(entries: Entries): FoldedEntries {
  const cached = foldedByEntries.get(entries)
  if (cached !== undefined) return cached
  const [d1, d2] = entries.shape
  const rows = new Int32Array(entries.n)
  const columns = new Int32Array(entries.n)
  const signs = new Float64Array(entries.n)
  for (let l = 0; l < entries.n; l++) {
    const j = entries.rows[l]
    const k = entries.columns[l]
    const rowFolds = 2 * j > d1
    const columnFolds = 2 * k > d2
    rows[l] = rowFolds ? d1 - j : j
    columns[l] = columnFolds ? d2 - k : k
    signs[l] = rowFolds === columnFolds ? 1 : -1
  }
  const folded = { rows, columns, signs }
  foldedByEntries.set(entries, folded)
  return folded
}

/** Returns the frequencies of a half spectrum that occur in any of the lists, ascending. */
export function usedFrequencies(lists: readonly Int32Array[], length: number): Int32Array {
  const used = new Uint8Array(halfLength(length))
  let count = 0
  for (const list of lists) {
    for (let l = 0; l < list.length; l++) {
      count += 1 - used[list[l]]
      used[list[l]] = 1
    }
  }
  const frequencies = new Int32Array(count)
  for (let k = 0, f = 0; f < count; k++) if (used[k] === 1) frequencies[f++] = k
  return frequencies
}
