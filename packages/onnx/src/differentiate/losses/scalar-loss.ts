/** An output of the model that is a loss already. */
import type { Loss } from './loss.js'

/** @param output a number, `[]` or `[1]`: the mean loss of a batch. Batches count equally */
export function scalarLoss(output: string): Loss {
  return {
    output,
    labels: undefined,
    build: ({ list }) => {
      const x = list.floats(output)
      const one = list.add('Expand', [list.float(1), list.add('Shape', [output])])
      return {
        nodes: list.nodes,
        sum: list.total(x),
        count: list.countOf(x),
        seeds: new Map([[output, list.seed(one)]]),
      }
    },
  }
}
