/** Entries listed one by one: read from a file, or chosen by hand. */
import { FourierFTError } from '../errors.js'
import type { Entries, Shape } from './entries.js'
import { checkEntryCount, countPositions } from './shape.js'

export interface ExplicitOptions {
  readonly shape: Shape
  /** `j_l`, integers in `[0, d1)`. */
  readonly rows: ArrayLike<number>
  /** `k_l`, integers in `[0, d2)`; as many as in `rows`. */
  readonly columns: ArrayLike<number>
}

/**
 * Makes the entries `(rows[l], columns[l])`, in this order. Copies the lists.
 *
 * @throws {FourierFTError} `INVALID_OPTION` for a bad shape, `SHAPE_MISMATCH` for lists of different lengths,
 *   `INVALID_ENTRY_COUNT` for empty lists or more entries than positions, `ENTRY_OUT_OF_RANGE` for an index that
 *   is not an integer or is outside the spectrum, `DUPLICATE_ENTRY` for a position that occurs twice
 */
export function explicitEntries({ shape, rows, columns }: ExplicitOptions): Entries {
  const positions = countPositions(shape)
  const n = rows.length
  if (columns.length !== n) {
    throw new FourierFTError(
      'SHAPE_MISMATCH',
      `columns: expected ${n} numbers, one for each element of rows; received ${columns.length}`,
      { option: 'columns', expected: n, received: columns.length },
    )
  }
  checkEntryCount(n, positions, shape)
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

function checkRange(option: 'rows' | 'columns', indices: ArrayLike<number>, limit: number): void {
  for (let l = 0; l < indices.length; l++) {
    const index = indices[l]
    if (Number.isInteger(index) && index >= 0 && index < limit) continue
    throw new FourierFTError(
      'ENTRY_OUT_OF_RANGE',
      `${option}[${l}]: expected an integer in 0 … ${limit - 1}; received ${index}`,
      { option: `${option}[${l}]`, expected: `an integer in 0 … ${limit - 1}`, received: index },
    )
  }
}

/** Checks that all positions differ. After sorting, equal positions are neighbours. */
function checkDistinct(rows: ArrayLike<number>, columns: ArrayLike<number>, d2: number): void {
  const positions = new Uint32Array(rows.length)
  for (let l = 0; l < positions.length; l++) positions[l] = rows[l] * d2 + columns[l]
  positions.sort()
  for (let l = 1; l < positions.length; l++) {
    const position = positions[l]
    if (position !== positions[l - 1]) continue
    const row = Math.floor(position / d2)
    const column = position - row * d2
    throw new FourierFTError(
      'DUPLICATE_ENTRY',
      `entries: expected distinct positions; received (${row}, ${column}) more than once`,
      { option: 'entries', expected: 'distinct positions', received: [row, column] },
    )
  }
}
