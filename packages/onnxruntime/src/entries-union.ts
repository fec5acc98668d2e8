/**
 * One set of entries for several adapters of a layer. ΔW is linear in the spectrum: with zeros at the places that an adapter does not
 * have, its coefficients on the union are the same ΔW. So one branch serves adapters of any entries.
 */
import { type Entries, explicitEntries, FourierFTError, type Layer } from '@fourierft/core'

/** All places of `all` (at least one set, of one shape), in the order in which they first occur. */
export function entriesUnion(all: readonly Entries[]): Entries {
  const [first] = all as [Entries]
  const places = new Set(all.flatMap(placesOf))
  if (places.size === first.n) return first
  const [, d2] = first.shape
  return explicitEntries({
    shape: first.shape,
    rows: Array.from(places, (place) => Math.floor(place / d2)),
    columns: Array.from(places, (place) => place % d2),
  })
}

const known = new WeakMap<Entries, WeakMap<Entries, readonly (number | undefined)[]>>()

/** Where on `union` each of the entries is; undefined for one that is not there. Found once: adapters share entries. */
export function positionsOn(union: Entries, entries: Entries): readonly (number | undefined)[] {
  const ofUnion = known.get(union) ?? new WeakMap<Entries, readonly (number | undefined)[]>()
  known.set(union, ofUnion)
  const found = ofUnion.get(entries)
  if (found) return found
  const index = new Map(placesOf(union).map((place, l) => [place, l]))
  const positions = placesOf(entries).map((place) => index.get(place))
  ofUnion.set(entries, positions)
  return positions
}

/**
 * scale·α·c of the layer on `union`; undefined where that has not all of the layer's places.
 *
 * @throws {FourierFTError} `NOT_FINITE` beyond the range of float32
 */
export function coefficientsOn(
  union: Entries,
  { name, entries, coefficients, scaling }: Layer,
  scale = 1,
): Float32Array | undefined {
  const spread = new Float32Array(union.n)
  const factor = scaling * scale
  for (const [l, at] of positionsOn(union, entries).entries()) {
    if (at === undefined) return undefined
    const value = factor * coefficients[l]
    spread[at] = value
    if (!Number.isFinite(spread[at]))
      throw new FourierFTError(
        'NOT_FINITE',
        `module ${name}: coefficient ${l} is ${value} with scaling ${scaling} and strength ${scale}, beyond the range of float32; ` +
          'lower the strength (setScale) or the scaling',
        { module: name, received: value },
      )
  }
  return spread
}

function placesOf({ shape: [, d2], rows, columns }: Entries): number[] {
  return Array.from(rows, (row, l) => row * d2 + columns[l])
}
