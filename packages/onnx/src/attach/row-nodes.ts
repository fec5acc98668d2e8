/** Nodes that make of the rows of the batch those of a layer's tokens, where the batch is not the first axis of its input. */

import type { NodeList } from '../model/node-list.js'
import type { Groups, RowPosition } from '../shapes/batch-axis.js'

/**
 * A branch takes equal runs of tokens. Behind the axes before the batch all rows come again and again: the rows are repeated as often.
 *
 * @param input the layer's
 * @param rows int64 `[R]`
 * @returns int64 `[R]`, or `[groups · R]`; no node is added where the rows serve as they are
 */
export function rowsOfTokens(list: NodeList, input: string, rows: string, place: RowPosition): string {
  if (typeof place === 'string') return rows
  const { add, constant, sizeOf } = list
  const before = Array.from({ length: place.axes }, (_, axis) => sizeOf(input, axis))
  const all = place.groups ? [...before, groupsOf(list, input, place.axes, place.groups)] : before
  const groups = all.reduce((product, size) => add('Mul', [product, size]))
  // One row serves all tokens.
  const one = constant([1])
  const times = add('Where', [add('Equal', [add('Shape', [rows]), one]), one, groups])
  return add('Tile', [rows, times])
}

function groupsOf({ add, constant, sizeOf }: NodeList, input: string, axis: number, groups: Groups): string {
  if ('number' in groups)
    return groups.axes.reduce(
      (product, one) => add('Mul', [product, sizeOf(one.input, one.axis)]),
      constant([groups.number]),
    )
  const { inner, batch } = groups
  const run = add('Mul', [sizeOf(batch.input, batch.axis), constant([inner])])
  return add('Div', [sizeOf(input, axis), run])
}
