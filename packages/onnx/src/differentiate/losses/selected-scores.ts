/**
 * The scores `[..., C]` that a loss over classes reads, at the positions that count. If the last product of the model computes them, it is copied to
 * compute only those rows: scores of a vocabulary are the largest values of a language model, and then there is no second copy of them, and no
 * gradient that is padded with zeros.
 */
import type { OnnxNode } from '../../model/graph.js'
import type { Backward } from '../backward.js'
import { operatorName } from '../gradient-rules.js'
import { integerOf } from '../rule.js'
import type { LossNodes } from './loss.js'

export interface SelectedScores {
  /** int64 vector: the shape of the scores without the classes. */
  readonly leading: string
  /** int64 vector: C. */
  readonly classes: string
  /**
   * Writes the scores `[P, C]` at P positions of the flattened leading axes.
   *
   * @param positions int64 vector
   */
  select(positions: string): string
  /** Returns the value whose gradient is known, and its gradient. @param gradient of the selected scores, of their type */
  seed(gradient: string): readonly [value: string, gradient: string]
}

/** Operators after the product that compute each score from the score at its position, with other inputs that are constants of at most C numbers. */
const ELEMENTWISE: ReadonlySet<string> = new Set('Identity Cast Tanh Add Sub Mul Div'.split(' '))

/** The last product is at most this far from the scores. */
const MAX_NODES = 8

/** @param forward what is known of the model's values */
export function selectedScores(list: LossNodes, scores: string, forward: Backward): SelectedScores {
  const head = findHead(forward, scores)
  return head ? fromHead(list, head) : fromScores(list, scores)
}

function fromScores({ add, constant, reshape, sizeOf }: LossNodes, scores: string): SelectedScores {
  const classes = sizeOf(scores, -1)
  const rows = reshape(scores, [constant([-1]), classes])
  let places = ''
  return {
    leading: add('Slice', [add('Shape', [scores]), constant([0]), constant([-1])]),
    classes,
    select(positions) {
      places = add('Reshape', [positions, constant([-1, 1])])
      return add('Gather', [rows, positions], { axis: { int: 0 } })
    },
    seed(gradient) {
      const zero = add('CastLike', [constant([0], []), scores])
      const zeros = add('Expand', [zero, add('Shape', [rows])])
      const all = add('ScatterND', [zeros, places, gradient])
      return [scores, add('Reshape', [all, add('Shape', [scores])])]
    },
  }
}

/** The nodes from the input of the last product to the scores. */
interface Head {
  readonly nodes: readonly OnnxNode[]
  /** Each node's index of the input that has the tokens. */
  readonly indices: readonly number[]
  /** `[..., inFeatures]` */
  readonly hidden: string
  readonly inFeatures: number
  readonly classes: number
}

function findHead(forward: Backward, scores: string): Head | undefined {
  const { graph } = forward
  const nodes: OnnxNode[] = []
  const indices: number[] = []
  let value = scores
  for (let step = 0; step < MAX_NODES; step++) {
    const node = graph.index.producers.get(value)
    const readers = graph.consumersOf(value).length
    if (node?.outputs.length !== 1 || readers !== (step === 0 ? 0 : 1)) return undefined
    if ([...node.attributes.values()].some(({ int }) => int === undefined)) return undefined
    nodes.unshift(node)
    const size = productSize(forward, node)
    const index = size ? 0 : indexOfScores(forward, node)
    if (index === undefined) return undefined
    indices.unshift(index)
    value = node.inputs[index]
    if (size === undefined) continue
    const [inFeatures, classes] = size
    const hasTokens = (forward.dimsOf(value)?.length ?? 0) > 2
    return hasTokens ? { nodes, indices, hidden: value, inFeatures, classes } : undefined
  }
  return undefined
}

/** The numbers of features of a product with one matrix. */
function productSize(forward: Backward, node: OnnxNode): readonly [number, number] | undefined {
  const name = operatorName(node)
  if (name === 'com.microsoft:MatMulNBits') return [integerOf(node, 'K', 0), integerOf(node, 'N', 0)]
  const dims = name === 'MatMul' ? forward.fixedDims(node.inputs[1]) : undefined
  return dims?.length === 2 ? [dims[0], dims[1]] : undefined
}

function indexOfScores(forward: Backward, node: OnnxNode): number | undefined {
  if (!ELEMENTWISE.has(operatorName(node))) return undefined
  const isVector = (input: string) => (forward.dimsOf(input)?.length ?? 2) < 2
  const [index, ...others] = node.inputs.flatMap((input, i) => (isVector(input) ? [] : [i]))
  return others.length > 0 ? undefined : index
}

function fromHead(list: LossNodes, { nodes, indices, hidden, inFeatures, classes }: Head): SelectedScores {
  const { add, constant } = list
  let selected = ''
  return {
    leading: add('Slice', [add('Shape', [hidden]), constant([0]), constant([-1])]),
    classes: constant([classes]),
    select(positions) {
      const rows = add('Reshape', [hidden, constant([-1, inFeatures])])
      selected = add('Gather', [rows, positions], { axis: { int: 0 } })
      for (const [i, node] of nodes.entries())
        selected = list.copy(node, node.inputs.with(indices[i], selected))
      return selected
    },
    seed: (gradient) => [selected, gradient],
  }
}
