/** Nodes that expand `rows`, one adapter for each part of the batch, to the tokens of a layer whose input does not begin with the batch axis. */
import type { NodeList } from '../model/node-list.js'
import type { Groups, RowPosition } from '../shapes/batch-axis.js'

/**
 * A branch divides the tokens into equal runs, one for each row. If other axes come before the batch, the tokens contain all rows once for each
 * index of those axes, so the rows are repeated that many times.
 *
 * @param input the layer's input
 * @param rows int64 `[R]`
 * @returns int64 `[R]` or `[groups · R]`; without new nodes if the batch is the first axis
 */
export function rowsOfTokens(list: NodeList, input: string, rows: string, position: RowPosition): string {
  // `first` needs no nodes; `none` and `unknown` have one row.
  if (typeof position === 'string') return rows
  const { add, constant, sizeOf } = list
  const { axesBefore, groups } = position
  const earlier = Array.from({ length: axesBefore }, (_, axis) => sizeOf(input, axis))
  const factors = groups ? [...earlier, numberOfGroups(list, input, axesBefore, groups)] : earlier
  const repeats = factors.reduce((product, size) => add('Mul', [product, size]))
  // A single row applies to all tokens already.
  const one = constant([1])
  const times = add('Where', [add('Equal', [add('Shape', [rows]), one]), one, repeats])
  return add('Tile', [rows, times])
}

function numberOfGroups(
  { add, constant, sizeOf }: NodeList,
  input: string,
  axis: number,
  groups: Groups,
): string {
  if ('factor' in groups)
    return groups.inputAxes.reduce(
      (product, other) => add('Mul', [product, sizeOf(other.input, other.axis)]),
      constant([groups.factor]),
    )
  const { numbersPerRow, batch } = groups
  const groupSize = add('Mul', [sizeOf(batch.input, batch.axis), constant([numbersPerRow])])
  return add('Div', [sizeOf(input, axis), groupSize])
}
