/** An output of the model that is a loss already. */
import { DataType } from '../../model/schema.js'
import type { Loss } from './loss.js'

/** @param output a number, `[]` or `[1]`: the mean loss of a batch. Batches count equally */
export function scalarLoss(output: string): Loss {
  return {
    output,
    labels: undefined,
    build: ({ list, dataType }) => {
      const x = dataType === DataType.float ? output : list.cast(output, DataType.float)
      const one = list.add('CastLike', [list.float(1), output])
      const seed = list.add('Expand', [one, list.add('Shape', [output])])
      return {
        nodes: list.nodes,
        sum: list.total(x),
        count: list.countOf(x),
        seeds: new Map([[output, seed]]),
      }
    },
  }
}
