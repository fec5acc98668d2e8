/** Formats rows as aligned columns for the terminal: numbers right, text left. */
import { escapeUnprintable } from '@fourierft/core'

export type Cell = string | number

/** Returns the lines of the table, each with a newline. The first line is `header`. */
export function textTable(header: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const widths = header.map((title, column) =>
    rows.reduce((width, row) => Math.max(width, formatCell(row[column]).length), title.length),
  )
  const line = (cells: readonly (Cell | undefined)[], alignment: readonly (Cell | undefined)[]) =>
    widths
      .map((width, column) => {
        const text = formatCell(cells[column])
        return typeof alignment[column] === 'number' ? text.padStart(width) : text.padEnd(width)
      })
      .join('  ')
      .trimEnd()
  return [line(header, rows[0] ?? header), ...rows.map((row) => line(row, row))].join('\n').concat('\n')
}

const numberFormat = new Intl.NumberFormat('en-US', { maximumFractionDigits: 20 })

function formatCell(cell: Cell | undefined): string {
  return typeof cell === 'number' ? numberFormat.format(cell) : escapeUnprintable(cell ?? '')
}
