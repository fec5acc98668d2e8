/** From places of a row-major `[d1, d2]` spectrum to entries. */
import type { Entries, EntriesRecipe, Shape } from './entries.js'

/** @param places distinct integers `v = j·d2 + k`, each in `[0, d1·d2)` */
export function entriesAtPlaces(shape: Shape, places: Uint32Array, recipe: EntriesRecipe): Entries {
  const [d1, d2] = shape
  const n = places.length
  const rows = new Uint32Array(n)
  const columns = new Uint32Array(n)
  for (let l = 0; l < n; l++) {
    const place = places[l]
    const row = Math.floor(place / d2)
    rows[l] = row
    columns[l] = place - row * d2
  }
  return { shape: [d1, d2], n, rows, columns, recipe }
}
