/** Cross-entropy of classes: one label for each row, or for each token. */
import { DataType } from '../../model/schema.js'
import {
  type BuiltLoss,
  checkOptionNames,
  invalidOption,
  LABELS,
  LABELS_CHECK,
  type Loss,
  type LossContext,
} from './loss.js'
import { selectedScores } from './selected-scores.js'

export interface CrossEntropyOptions {
  /** Positions with this label do not count. Default: −100, as in PyTorch. */
  readonly ignoreIndex?: number
  /** The share of each target that is spread over all classes, in `[0, 1)`. Default: 0. */
  readonly labelSmoothing?: number
  /** A weight for each class, at least 0. Default: 1. */
  readonly weights?: readonly number[]
}

/**
 * The loss of classes, as `torch.nn.CrossEntropyLoss` computes it: the mean over all labels that count, weighted by the classes' weights.
 * Logits and probabilities of positions that do not count are not formed; over a vocabulary they would take most of the memory.
 *
 * @param output logits `[..., C]`. The labels are int64 `[...]`, each in `[0, C)` or `ignoreIndex`
 * @throws {FourierFTError} `INVALID_OPTION`
 */
export function crossEntropy(output: string, options: CrossEntropyOptions = {}): Loss {
  const { ignoreIndex = -100, labelSmoothing = 0, weights } = options
  checkOptionNames('crossEntropy', options, ['ignoreIndex', 'labelSmoothing', 'weights'])
  const invalid = (option: string, expected: string, received: unknown) =>
    invalidOption('crossEntropy', option, expected, received)
  if (!Number.isSafeInteger(ignoreIndex)) throw invalid('ignoreIndex', 'an integer', ignoreIndex)
  if (!(labelSmoothing >= 0 && labelSmoothing < 1))
    throw invalid('labelSmoothing', 'a number in [0, 1)', labelSmoothing)
  const isWeight = (weight: unknown) => typeof weight === 'number' && weight >= 0 && Number.isFinite(weight)
  if (weights !== undefined && !(Array.isArray(weights) && weights.every(isWeight)))
    throw invalid('weights', 'a list of numbers of at least 0', weights)
  return {
    output,
    labels: { dataType: DataType.int64, missingAxes: 1 },
    problemOf: (labels, classes) => {
      const end = weights?.length ?? classes ?? Number.POSITIVE_INFINITY
      if (classes !== undefined && weights && weights.length !== classes)
        return `there are ${weights.length} weights for ${classes} classes`
      for (let i = 0; i < labels.length; i++) {
        const label = Number(labels[i])
        if (label !== ignoreIndex && !(label >= 0 && label < end))
          return `label ${label} at position ${i}: expected a class in [0, ${end}), or ${ignoreIndex} for a position that does not count`
      }
      return undefined
    },
    build: (context) => build(output, { ignoreIndex, labelSmoothing, weights }, context),
  }
}

interface Settings {
  readonly ignoreIndex: number
  readonly labelSmoothing: number
  readonly weights: readonly number[] | undefined
}

/**
 * With p = softmax(x), targets q_c = (1 − ε)·w_y·[c = y] + ε·w_c/C and s = Σ q: the loss of a row is −Σ q_c·ln p_c, and its gradient s·p − q.
 */
function build(
  output: string,
  { ignoreIndex, labelSmoothing, weights }: Settings,
  { list, forward }: LossContext,
): BuiltLoss {
  const { add, constant, float, multiply, plus, minus, total } = list
  const scores = selectedScores(list, output, forward)
  const { classes, leading } = scores
  const labels = add('Reshape', [list.checked(LABELS_CHECK, LABELS, leading), constant([-1])])
  const isCounted = add('Not', [add('Equal', [labels, constant([ignoreIndex])])])
  const positions = add('Reshape', [add('NonZero', [isCounted]), constant([-1])])
  const column = add('Reshape', [add('Gather', [labels, positions]), constant([-1, 1])])

  const counted = scores.select(positions)
  const logits = list.floats(counted)
  const probabilities = add('Softmax', [logits], { axis: { int: 1 } })
  // ln Σ exp(x), from the largest score and its probability: ln p = x − ln Σ exp(x). The logarithms of all probabilities would be another copy.
  const partition = minus(list.largestOver(logits, 1), add('Log', [list.largestOver(probabilities, 1)]))
  const atLabel = (values: string) => add('GatherElements', [values, column], { axis: { int: 1 } })

  const smoothing = labelSmoothing > 0 ? float(labelSmoothing) : undefined
  const classWeights = weights === undefined ? undefined : float(weights)
  const labelWeights =
    classWeights === undefined
      ? undefined
      : add('Reshape', [add('Gather', [classWeights, column]), constant([-1, 1])])
  const weighted = (value: string) => (labelWeights === undefined ? value : multiply(value, labelWeights))
  // The part of the target at the label, and the part that all classes share.
  const certain = (value: string) =>
    smoothing === undefined ? value : multiply(value, float(1 - labelSmoothing))
  const shares =
    smoothing === undefined
      ? undefined
      : add('Div', [
          multiply(smoothing, classWeights ?? add('Expand', [float(1), classes])),
          list.cast(classes, DataType.float),
        ])

  const likelihood = certain(weighted(minus(atLabel(logits), partition)))
  const spread = shares === undefined ? undefined : total(multiply(minus(logits, partition), shares))
  const sum = add('Neg', [spread === undefined ? total(likelihood) : plus(total(likelihood), spread)])
  const ones = add('CastLike', [add('Not', [add('Equal', [column, constant([ignoreIndex])])]), logits])
  const count = total(labelWeights ?? ones)

  const labelPart = certain(labelWeights ?? ones)
  const targetSum = () => (shares === undefined ? labelPart : plus(labelPart, total(shares)))
  // The targets of a row add up to 1 if classes have no weights.
  const scaled = classWeights === undefined ? probabilities : multiply(probabilities, targetSum())
  const withoutShares = shares === undefined ? scaled : minus(scaled, shares)
  const gradient = add('ScatterElements', [withoutShares, column, minus(atLabel(withoutShares), labelPart)], {
    axis: { int: 1 },
  })
  return { nodes: list.nodes, sum, count, seeds: new Map([scores.seed(list.seed(gradient))]) }
}
