/** Errors of rows, and the fields of rows, which may come from anywhere. */
import { type ErrorDetails, FourierFTError } from '@fourierft/core'

/** A row as it was read: an object with unknown fields. */
export type RawRow = Readonly<Record<string, unknown>>

/** @param row the position of the row in the data, from 0 */
export function rowError(
  row: number,
  field: string,
  problem: string,
  details: ErrorDetails = {},
): FourierFTError {
  return new FourierFTError('INVALID_OPTION', `row ${row} (from 0), ${field}: ${problem}`, {
    row,
    option: field,
    ...details,
  })
}

/** @throws {FourierFTError} `INVALID_OPTION` for a row that is not an object */
export function checkRow(row: unknown, position: number, example: string): RawRow {
  if (typeof row === 'object' && row !== null && !Array.isArray(row)) return row as RawRow
  throw new FourierFTError(
    'INVALID_OPTION',
    `row ${position} (from 0): expected an object, such as ${example}; received ${shown(row)}`,
    { row: position, option: 'data', received: row },
  )
}

/** @throws {FourierFTError} `INVALID_OPTION` for a field that is missing */
export function fieldOf(row: RawRow, field: string, position: number): unknown {
  const value = Object.hasOwn(row, field) ? row[field] : undefined
  if (value !== undefined && value !== null) return value
  const names = Object.keys(row)
  throw rowError(
    position,
    field,
    `the row has no ${field}; it has ${names.slice(0, 20).join(', ') || 'no fields'}`,
    { expected: field, received: names },
  )
}

/** A field with text. @throws {FourierFTError} `INVALID_OPTION` if it is missing, empty or not a string */
export function textOf(row: RawRow, field: string, position: number): string {
  const value = fieldOf(row, field, position)
  if (typeof value === 'string' && value.trim() !== '') return value
  throw rowError(
    position,
    field,
    `expected a text; received ${value === '' ? 'an empty one' : shown(value)}`,
    {
      received: value,
    },
  )
}

/** A field with text, or undefined if the row does not have it. */
export function optionalTextOf(row: RawRow, field: string, position: number): string | undefined {
  return hasField(row, field) ? textOf(row, field, position) : undefined
}

/** A finite number, or a text that is one, as in a CSV file. @throws {FourierFTError} `INVALID_OPTION` */
export function numberOf(value: unknown, field: string, position: number): number {
  const number = typeof value === 'string' && value.trim() !== '' ? Number(value) : value
  if (typeof number === 'number' && Number.isFinite(number)) return number
  throw rowError(position, field, `expected a finite number; received ${shown(value)}`, { received: value })
}

/** Whether a row has a field that it may leave out. An empty text is an empty cell of a CSV file. */
export function hasField(row: RawRow, field: string): boolean {
  return Object.hasOwn(row, field) && row[field] !== undefined && row[field] !== null && row[field] !== ''
}

export function shown(value: unknown): string {
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? 'an array' : 'an object'
  return typeof value === 'string' ? JSON.stringify(value) : String(value)
}
