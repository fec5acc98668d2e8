/**
 * One set of entries for several adapters of a layer. ΔW is linear in the spectrum: if coefficients are zero at the entries that an adapter
 * does not have, the union gives the same ΔW. So one branch can apply adapters with different entries.
 */
import { type Entries, explicitEntries, FourierFTError, type Layer } from '@fourierft/core'

/** Returns all entries of the sets, in the order in which they first occur. There is at least one set, and all have one shape. */
export function entriesUnion(sets: readonly Entries[]): Entries {
  const [first] = sets as [Entries]
  const indices = new Set(sets.flatMap(flatIndices))
  if (indices.size === first.n) return first
  const [, d2] = first.shape
  return explicitEntries({
    shape: first.shape,
    rows: Array.from(indices, (index) => Math.floor(index / d2)),
    columns: Array.from(indices, (index) => index % d2),
  })
}

const cache = new WeakMap<Entries, WeakMap<Entries, readonly (number | undefined)[]>>()

/** Returns the index of each entry in `union`; undefined for an entry that `union` does not contain. Cached, because adapters share entries. */
export function positionsOn(union: Entries, entries: Entries): readonly (number | undefined)[] {
  const cachedForUnion = cache.get(union) ?? new WeakMap<Entries, readonly (number | undefined)[]>()
  cache.set(union, cachedForUnion)
  const cached = cachedForUnion.get(entries)
  if (cached) return cached
  const positionOf = new Map(flatIndices(union).map((index, l) => [index, l]))
  const positions = flatIndices(entries).map((index) => positionOf.get(index))
  cachedForUnion.set(entries, positions)
  return positions
}

/**
 * Adds scale·α·c of the layer, rounded to float32, to numbers that belong to the entries of `union`, which contain those of the layer.
 *
 * @param target contains `union.n` numbers at `offset`
 * @throws {FourierFTError} `NOT_FINITE` beyond the range of float32
 */
export function addCoefficients(
  target: Float32Array,
  offset: number,
  union: Entries,
  { name, entries, coefficients, scaling }: Layer,
  scale = 1,
): void {
  const factor = scaling * scale
  // Most graphs are for adapters with the same entries.
  const positions = entries === union ? undefined : positionsOn(union, entries)
  for (let l = 0; l < coefficients.length; l++) {
    const value = Math.fround(factor * coefficients[l])
    if (!Number.isFinite(value))
      throw new FourierFTError(
        'NOT_FINITE',
        `module ${name}: coefficient ${l} is ${factor * coefficients[l]} with scaling ${scaling} and scale ${scale}, beyond the range of float32`,
        {
          advice: 'lower the scale (setScale) or the scaling',
          module: name,
          received: factor * coefficients[l],
        },
      )
    target[offset + (positions === undefined ? l : (positions[l] as number))] += value
  }
}

function flatIndices({ shape: [, d2], rows, columns }: Entries): number[] {
  return Array.from(rows, (row, l) => row * d2 + columns[l])
}
