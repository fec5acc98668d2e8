/**
 * Layers whose weight and bias are replaced by adapters (PEFT's `modules_to_save`). The new weights and biases are inputs of the model, stacked: each row
 * of the batch has its own, or the layer's original output.
 */
import { activationType } from '../layers/activation-type.js'
import { biasOf } from '../layers/layer-bias.js'
import type { LinearLayer } from '../layers/linear-layer.js'
import { outputNodeOf } from '../layers/quantised-pair.js'
import { setWidth, valuesOfFreeWidth } from '../layers/resizable-head.js'
import type { OnnxModel } from '../model/model.js'
import { NodeList } from '../model/node-list.js'
import { DataType } from '../model/schema.js'
import type { RowPosition } from '../shapes/batch-axis.js'
import { requantise } from './branch.js'
import { DOMAIN } from './functions/branch-function.js'
import { rowsOfTokens } from './row-nodes.js'

/** A layer whose weight and bias can be replaced by adapters: PEFT's `modules_to_save`. */
export interface Replaceable {
  readonly module: string
  readonly layer: LinearLayer
  /** Whether the new weight may have another number of output features, as heads with other labels do. `valuesOfFreeWidth` must be defined. */
  readonly hasFreeWidth?: boolean
}

export interface WeightInputs {
  /** float32 `[A, in, out]`: A weights, each the transpose of PyTorch's. A = 0 keeps the layer's own weight and bias. */
  readonly weight: string
  /** float32 `[A, out]`; undefined if the layer has no bias. */
  readonly bias: string | undefined
  /**
   * int64 `[R]`: the replacement of each of R equal parts of the batch, as an index into the weights. −1 keeps the part's original output, which must be as
   * wide as the replacements. With R = 1 the whole batch has the same weight: A is then 0 or 1.
   */
  readonly rows: string
}

/** One product of a replaceable layer, and the position of the rows in its input. */
export interface ReplaceableProduct {
  readonly layer: LinearLayer
  readonly position: RowPosition
}

/** Adds the inputs. Without weights the layer gives its original output, otherwise x·W + b in float32. */
export function makeReplaceable(
  { graph, opsetImports }: OnnxModel,
  { module, layer, hasFreeWidth = false }: Replaceable,
  products: readonly ReplaceableProduct[],
): WeightInputs {
  const { inFeatures, outFeatures } = layer
  const inputs = {
    weight: `${DOMAIN}.${module}.weight`,
    bias: biasOf(layer) ? `${DOMAIN}.${module}.bias` : undefined,
    rows: `${DOMAIN}.${module}.rows`,
  }
  const stack = `${DOMAIN}_${module}_replacements`
  const features = hasFreeWidth ? `${DOMAIN}_${module}_features` : `${DOMAIN}_${outFeatures}_or_0`
  if (hasFreeWidth) setWidth(graph, valuesOfFreeWidth(layer) ?? [], openWidth)
  graph.addInput({ name: inputs.weight, dataType: DataType.float, dims: [stack, inFeatures, features] })
  if (inputs.bias) graph.addInput({ name: inputs.bias, dataType: DataType.float, dims: [stack, features] })
  graph.addInput({ name: inputs.rows, dataType: DataType.int64, dims: [`${DOMAIN}_${module}_rows`] })
  const opset = opsetImports.get('') ?? 0
  for (const product of products) insertChoice(product, { ...inputs, opset, hasFreeWidth })
  return inputs
}

/** The name of a dim that was a fixed width in the original file. */
const openWidth = (width: number) => `${DOMAIN}_${width}_or_other`
const OPEN_WIDTH = new RegExp(`^${DOMAIN}_(\\d+)_or_other$`)

/** Returns the fixed width that the dim had in the original file; undefined if `attachBranches` did not change it. */
export function originalWidth(dim: number | string | undefined): number | undefined {
  const width = typeof dim === 'string' ? OPEN_WIDTH.exec(dim)?.[1] : undefined
  return width === undefined ? undefined : Number(width)
}

/** The inputs of a replaceable layer, and what its nodes depend on. */
interface Replacement extends WeightInputs {
  readonly opset: number
  readonly hasFreeWidth: boolean
}

/** Inserts an `If` that gives the original output or the output of the new weights. */
function insertChoice({ layer, position }: ReplaceableProduct, replacement: Replacement): void {
  const { input } = layer
  const outputNode = outputNodeOf(layer)
  const [output] = outputNode.outputs as [string]
  const prefix = `${output}.${DOMAIN}.`
  const base = `${prefix}base`
  const requantising = requantise(outputNode, output)
  outputNode.setOutput(0, base)
  const { nodes, add, named, constant } = new NodeList(prefix)
  const isEmpty = add('Equal', [add('Size', [replacement.weight]), constant([0], [])])
  const original = new NodeList(`${prefix}own.`)
  original.named([`${prefix}kept`], 'Identity', [base])

  const other = new NodeList(`${prefix}other.`)
  const type = activationType(layer)
  const isFloat = type === DataType.float
  const x = isFloat ? input : other.add('Cast', [input], { to: { int: DataType.float } })
  const ofBatch = new NodeList(`${prefix}batch.`)
  const ofRows = new NodeList(`${prefix}rows.`)
  const outputOfBatch = addOutputOfBatch(ofBatch, x, replacement)
  const outputOfRows = addOutputOfRows(ofRows, { x, base, layer, position }, replacement)
  const hasRows = other.add('Greater', [other.add('Size', [replacement.rows]), other.constant([1], [])])
  // In training, the last graph stays: `inlineIfs`.
  const sum = other.add('If', [hasRows], {
    then_branch: body('rows', ofRows, outputOfRows),
    else_branch: body('batch', ofBatch, outputOfBatch),
  })
  const result = isFloat ? sum : other.add('Cast', [sum], { to: { int: type } })
  const replaced = `${prefix}replaced`
  // `Reshape` gives runtimes that infer shapes the shape of the original output.
  if (replacement.hasFreeWidth) other.named([replaced], 'Identity', [result])
  else other.named([replaced], 'Reshape', [result, other.add('Shape', [base])])

  named([output], 'If', [isEmpty], {
    then_branch: body('own', original, `${prefix}kept`),
    else_branch: body('other', other, replaced),
  })
  nodes.push(...requantising)
  outputNode.graph.insertAfter(outputNode, nodes)
}

function body(name: string, { nodes }: NodeList, output: string) {
  return { graph: { name, nodes, outputs: [{ name: output }] } }
}

/** x·W + b with the only weight. `Squeeze` keeps the sizes that runtimes need to fuse the product with its bias, and rejects several weights. */
function addOutputOfBatch(
  { add, constant }: NodeList,
  x: string,
  { weight, bias, opset }: Replacement,
): string {
  // Since opset 13 the axes are an input.
  const only = (stack: string) =>
    opset < 13 ? add('Squeeze', [stack], { axes: { ints: [0] } }) : add('Squeeze', [stack, constant([0])])
  const product = add('MatMul', [x, only(weight)])
  return bias ? add('Add', [product, only(bias)]) : product
}

interface RowsOfLayer extends ReplaceableProduct {
  /** The layer's input and original output. The input is float32. */
  readonly x: string
  readonly base: string
}

/** x·W + b with the weight of each row, in the shape of the original output but for the width. */
function addOutputOfRows(
  list: NodeList,
  { x, base, layer, position }: RowsOfLayer,
  { weight, bias, rows }: Replacement,
): string {
  const { add, constant, reshape } = list
  const { input, inFeatures, outFeatures } = layer
  const chosen = rowsOfTokens(list, input, rows, position)
  const count = add('Shape', [chosen])
  const one = constant([1])
  const rest = constant([-1])
  const product = add('MatMul', [
    reshape(x, [count, rest, constant([inFeatures])]),
    add('Gather', [weight, chosen]),
  ])
  const sum = bias
    ? add('Add', [product, reshape(add('Gather', [bias, chosen]), [count, one, rest])])
    : product

  const withOriginal = new NodeList(`${base}.mixed.`)
  const original =
    activationType(layer) === DataType.float
      ? base
      : withOriginal.add('Cast', [base], { to: { int: DataType.float } })
  const mixed = withOriginal.add('Where', [
    withOriginal.reshape(add('Less', [chosen, constant([0])]), [count, one, one]),
    withOriginal.reshape(original, [count, rest, constant([outFeatures])]),
    sum,
  ])
  const replacedOnly = new NodeList(`${base}.every.`)
  const every = replacedOnly.add('Identity', [sum])
  const smallest = add('ReduceMin', [chosen], { keepdims: { int: 0 } })
  const result = add('If', [add('Less', [smallest, constant([0], [])])], {
    then_branch: body('mixed', withOriginal, mixed),
    else_branch: body('every', replacedOnly, every),
  })
  const shapeBefore = add('Slice', [add('Shape', [base]), constant([0]), constant([-1])])
  return reshape(result, [shapeBefore, rest])
}
