/** Entries given one by one: read from a file, or chosen by hand. */
import { FourierFTError } from '../errors.js'
import type { Entries, Shape } from './entries.js'
import { checkEntryCount, countPlaces } from './shape.js'

export interface ExplicitOptions {
  readonly shape: Shape
  /** `j_l`, integers in `[0, d1)`. */
  readonly rows: ArrayLike<number>
  /** `k_l`, integers in `[0, d2)`; as many as `rows`. */
  readonly columns: ArrayLike<number>
}

/**
 * Entries `(rows[l], columns[l])` in the given order; the lists are copied.
 *
 * @throws {FourierFTError} `INVALID_OPTION` for a bad shape, `SHAPE_MISMATCH` for lists of different lengths,
 *   `INVALID_ENTRY_COUNT` for empty lists or more entries than places, `ENTRY_OUT_OF_RANGE` for a position
 *   outside the spectrum or no integer, `DUPLICATE_ENTRY` for a position that occurs twice
 */
export function explicitEntries({ shape, rows, columns }: ExplicitOptions): Entries {
  const places = countPlaces(shape)
  const n = rows.length
  if (columns.length !== n) {
    throw new FourierFTError(
      'SHAPE_MISMATCH',
      `columns: expected ${n} numbers, one for each of rows; received ${columns.length}`,
      { option: 'columns', expected: n, received: columns.length },
    )
  }
  checkEntryCount(n, places, shape)
  checkRange('rows', rows, shape[0])
  checkRange('columns', columns, shape[1])
  checkDistinct(rows, columns, shape[1])
  return {
    shape: [shape[0], shape[1]],
    n,
    rows: Uint32Array.from(rows),
    columns: Uint32Array.from(columns),
    recipe: { sampler: 'explicit' },
  }
}

function checkRange(option: 'rows' | 'columns', positions: ArrayLike<number>, limit: number): void {
  for (let l = 0; l < positions.length; l++) {
    const position = positions[l]
    if (Number.isInteger(position) && position >= 0 && position < limit) continue
    throw new FourierFTError(
      'ENTRY_OUT_OF_RANGE',
      `${option}[${l}]: expected an integer in 0 … ${limit - 1}; received ${position}`,
      { option: `${option}[${l}]`, expected: `an integer in 0 … ${limit - 1}`, received: position },
    )
  }
}

/** Sorted, equal places are neighbours. */
function checkDistinct(rows: ArrayLike<number>, columns: ArrayLike<number>, d2: number): void {
  const places = new Uint32Array(rows.length)
  for (let l = 0; l < places.length; l++) places[l] = rows[l] * d2 + columns[l]
  places.sort()
  for (let l = 1; l < places.length; l++) {
    if (places[l] !== places[l - 1]) continue
    const place = places[l]
    const row = Math.floor(place / d2)
    const column = place - row * d2
    throw new FourierFTError(
      'DUPLICATE_ENTRY',
      `entries: (${row}, ${column}) occurs more than once; every entry must be a different position`,
      { option: 'entries', expected: 'distinct positions', received: [row, column] },
    )
  }
}
