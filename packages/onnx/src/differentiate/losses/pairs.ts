/** Losses of sentence encoders: the two halves of a batch are pairs of sentences, which are compared by the cosine of their embeddings. */
import { DataType } from '../../model/schema.js'
import {
  checkOptionNames,
  invalidOption,
  LABELS,
  LABELS_CHECK,
  type Loss,
  type LossContext,
  type LossNodes,
  PAIRS_CHECK,
} from './loss.js'
import { outside } from './regression.js'

export interface PairOptions {
  /**
   * `mean` for an output `[B, T, D]` of tokens, whose mean over the tokens of the attention mask is the embedding, as in
   * sentence-transformers; `none` for an output `[B, D]` of embeddings. Default: `mean`.
   */
  readonly pooling?: 'mean' | 'none'
  /** The input `[B, T]` with 1 for tokens and 0 for padding. Default: `attention_mask`. */
  readonly mask?: string
}

export interface ContrastiveOptions extends PairOptions {
  /** What the cosines are multiplied by: the reciprocal of the temperature. Default: 20, as in sentence-transformers. */
  readonly scale?: number
}

/** The least norm of an embedding; 0 / 0 is NaN. */
const LEAST_NORM = 1e-12

/**
 * The mean of (cos(a, b) − y)², as `CosineSimilarityLoss` of sentence-transformers computes it. Row i of the batch and row i + B/2 are a pair.
 *
 * @param output tokens `[B, T, D]`, or embeddings `[B, D]`. The labels are float32 `[B/2]`, each in `[−1, 1]`
 * @throws {FourierFTError} `INVALID_OPTION`
 */
export function cosineSimilarity(output: string, options: PairOptions = {}): Loss {
  const pooling = checkPooling('cosineSimilarity', options, ['pooling', 'mask'])
  return {
    ...pairLoss(output, pooling, (list, a, b) => {
      const cosine = list.sumOver(list.multiply(a, b), 1)
      const labels = list.checked(LABELS_CHECK, LABELS, list.add('Shape', [cosine]))
      const difference = list.minus(cosine, labels)
      const twice = list.multiply(difference, list.float(2))
      return {
        losses: list.multiply(difference, difference),
        ofFirst: list.multiply(twice, b),
        ofSecond: list.multiply(twice, a),
      }
    }),
    labels: { dataType: DataType.float, missingAxes: pooling.mask === undefined ? 1 : 2 },
    problemOf: outside(-1, 1),
  }
}

/**
 * The cross-entropy of finding b_i among all second sentences of the batch by scale · cos(a_i, b_j), as `MultipleNegativesRankingLoss` of
 * sentence-transformers computes it. Row i of the batch and row i + B/2 are a pair. There are no labels. Batches that count as one step are
 * compared each by itself.
 *
 * @param output tokens `[B, T, D]`, or embeddings `[B, D]`
 * @throws {FourierFTError} `INVALID_OPTION`
 */
export function contrastive(output: string, options: ContrastiveOptions = {}): Loss {
  const pooling = checkPooling('contrastive', options, ['pooling', 'mask', 'scale'])
  const { scale = 20 } = options
  if (!(scale > 0 && Number.isFinite(scale)))
    throw invalidOption('contrastive', 'scale', 'a finite number above 0', scale)
  return {
    ...pairLoss(output, pooling, (list, a, b) => {
      const { add } = list
      const factor = list.float(scale)
      const scores = list.multiply(add('MatMul', [a, add('Transpose', [b])]), factor)
      const logarithms = add('LogSoftmax', [scores], { axis: { int: 1 } })
      // The identity matrix: row i belongs to column i.
      const targets = add('EyeLike', [scores])
      const gradient = list.multiply(list.minus(add('Exp', [logarithms]), targets), factor)
      return {
        losses: add('Neg', [list.sumOver(list.multiply(logarithms, targets), 1)]),
        ofFirst: add('MatMul', [gradient, b]),
        ofSecond: add('MatMul', [add('Transpose', [gradient]), a]),
      }
    }),
    labels: undefined,
  }
}

interface Pooling {
  /** The name of the mask; undefined if the output is embeddings already. */
  readonly mask: string | undefined
}

/** Writes the losses of P pairs of directions a and b `[P, D]`, and the gradients of their sum. */
type Write = (
  list: LossNodes,
  a: string,
  b: string,
) => { readonly losses: string; readonly ofFirst: string; readonly ofSecond: string }

/**
 * With e = Σ m_t·h_t / Σ m_t and u = e / |e|: ∂L/∂e = (∂L/∂u − u·⟨u, ∂L/∂u⟩) / |e|, and ∂L/∂h_t = m_t / Σ m_t · ∂L/∂e.
 */
function pairLoss(
  output: string,
  { mask }: Pooling,
  write: Write,
): Pick<Loss, 'output' | 'inputs' | 'build'> {
  const build = ({ list }: LossContext) => {
    const { add, constant, multiply } = list
    const x = list.floats(output)
    const weights = mask === undefined ? undefined : tokenWeights(list, mask)
    const embeddings =
      weights === undefined
        ? x
        : add('Squeeze', [add('MatMul', [add('Unsqueeze', [weights, constant([1])]), x]), constant([1])])
    const squares = list.sumOver(multiply(embeddings, embeddings), 1)
    const norms = add('Max', [add('Sqrt', [squares]), list.float(LEAST_NORM)])
    const directions = add('Div', [embeddings, norms])
    const halves = add('Concat', [constant([2, -1]), list.sizeOf(embeddings, -1)], { axis: { int: 0 } })
    const pairs = list.checked(PAIRS_CHECK, directions, halves)
    const half = (index: number) => add('Gather', [pairs, constant([index], [])], { axis: { int: 0 } })
    const { losses, ofFirst, ofSecond } = write(list, half(0), half(1))
    const ofDirections = add('Concat', [ofFirst, ofSecond], { axis: { int: 0 } })
    const along = list.sumOver(multiply(directions, ofDirections), 1)
    const ofEmbeddings = add('Div', [list.minus(ofDirections, multiply(directions, along)), norms])
    const gradient =
      weights === undefined
        ? ofEmbeddings
        : multiply(
            add('Unsqueeze', [weights, constant([2])]),
            add('Unsqueeze', [ofEmbeddings, constant([1])]),
          )
    return {
      nodes: list.nodes,
      sum: list.total(losses),
      count: list.countOf(losses),
      seeds: new Map([[output, list.seed(gradient)]]),
    }
  }
  return { output, ...(mask !== undefined && { inputs: [mask] }), build }
}

/** m / Σ m for each row. Rows without tokens have zeros. */
function tokenWeights(list: LossNodes, mask: string): string {
  const weights = list.cast(mask, DataType.float)
  return list.add('Div', [weights, list.add('Max', [list.sumOver(weights, 1), list.float(1e-9)])])
}

function checkPooling(loss: string, options: PairOptions, names: readonly string[]): Pooling {
  checkOptionNames(loss, options, names)
  const { pooling = 'mean', mask = 'attention_mask' } = options
  if (pooling !== 'mean' && pooling !== 'none')
    throw invalidOption(loss, 'pooling', "'mean' or 'none'", pooling)
  if (typeof mask !== 'string') throw invalidOption(loss, 'mask', 'the name of an input', mask)
  return { mask: pooling === 'mean' ? mask : undefined }
}
