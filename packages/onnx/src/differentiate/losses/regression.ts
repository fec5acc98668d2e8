/** Losses of numbers: mean squared error, and binary cross-entropy of several labels. */
import { DataType } from '../../model/schema.js'
import { LABELS, LABELS_CHECK, type Loss, type LossContext, type LossNodes } from './loss.js'

/** @param output `[...]`. The labels are float32 of the same shape */
export function meanSquaredError(output: string): Loss {
  return elementwise(
    output,
    outside(Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY),
    (list, x, labels) => {
      const difference = list.minus(x, labels)
      return {
        loss: list.multiply(difference, difference),
        gradient: list.multiply(difference, list.float(2)),
      }
    },
  )
}

/**
 * The loss of several labels for each row, as `torch.nn.BCEWithLogitsLoss` computes it: max(x, 0) − x·y + ln(1 + e^−|x|), with the gradient
 * σ(x) − y.
 *
 * @param output logits `[...]`. The labels are float32 of the same shape, in `[0, 1]`
 */
export function binaryCrossEntropy(output: string): Loss {
  return elementwise(output, outside(0, 1), (list, x, labels) => {
    const { add, minus } = list
    const negative = add('Neg', [add('Abs', [x])])
    const logarithm = add('Log', [list.plus(add('Exp', [negative]), list.float(1))])
    const loss = list.plus(minus(add('Relu', [x]), list.multiply(x, labels)), logarithm)
    return { loss, gradient: minus(add('Sigmoid', [x]), labels) }
  })
}

type Write = (
  list: LossNodes,
  x: string,
  labels: string,
) => { readonly loss: string; readonly gradient: string }

/** Finds labels that are outside of a range, NaN or infinite. */
export function outside(least: number, most: number): NonNullable<Loss['problemOf']> {
  const expected = Number.isFinite(least) ? `a number in [${least}, ${most}]` : 'a finite number'
  return (labels) => {
    for (let i = 0; i < labels.length; i++) {
      const label = Number(labels[i])
      if (!(Number.isFinite(label) && label >= least && label <= most))
        return `label ${label} at position ${i}: expected ${expected}`
    }
    return undefined
  }
}

function elementwise(output: string, problemOf: NonNullable<Loss['problemOf']>, write: Write): Loss {
  return {
    output,
    labels: { dataType: DataType.float, missingAxes: 0 },
    problemOf,
    build: ({ list }: LossContext) => {
      const x = list.floats(output)
      // A runtime would broadcast labels of another shape.
      const labels = list.checked(LABELS_CHECK, LABELS, list.add('Shape', [output]))
      const { loss, gradient } = write(list, x, labels)
      return {
        nodes: list.nodes,
        sum: list.total(loss),
        count: list.countOf(x),
        seeds: new Map([[output, list.seed(gradient)]]),
      }
    },
  }
}
