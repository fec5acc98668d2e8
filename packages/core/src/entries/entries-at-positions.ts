/** Makes entries from their positions in a row-major `[d1, d2]` spectrum. */
import type { Entries, EntriesRecipe, Shape } from './entries.js'

/** @param positions distinct integers `v = j·d2 + k`, each in `[0, d1·d2)` */
export function entriesAtPositions(shape: Shape, positions: Uint32Array, recipe: EntriesRecipe): Entries {
  const [d1, d2] = shape
  const n = positions.length
  const rows = new Uint32Array(n)
  const columns = new Uint32Array(n)
  for (let l = 0; l < n; l++) {
    const position = positions[l]
    const row = Math.floor(position / d2)
    rows[l] = row
    columns[l] = position - row * d2
  }
  return { shape: [d1, d2], n, rows, columns, recipe }
}
