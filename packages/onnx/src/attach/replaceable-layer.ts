/** Layers whose weight and bias are replaced by an adapter (PEFT's `modules_to_save`): the new weight and bias are inputs of the model. */
import { activationType } from '../layers/activation-type.js'
import { biasOf } from '../layers/layer-bias.js'
import type { LinearLayer } from '../layers/linear-layer.js'
import { productsOf } from '../layers/products.js'
import { outputNodeOf } from '../layers/quantised-pair.js'
import { setWidth, valuesOfFreeWidth } from '../layers/resizable-head.js'
import type { OnnxModel } from '../model/model.js'
import { NodeList } from '../model/node-list.js'
import { DataType } from '../model/schema.js'
import { requantise } from './branch.js'
import { DOMAIN } from './functions/branch-function.js'

/** A layer whose weight and bias can be replaced by adapters: PEFT's `modules_to_save`. */
export interface Replaceable {
  readonly module: string
  readonly layer: LinearLayer
  /** Whether the new weight may have another number of output features, as heads with other labels do. `valuesOfFreeWidth` must be defined. */
  readonly hasFreeWidth?: boolean
}

export interface WeightInputs {
  /** float32 `[in, out]`, the transpose of PyTorch's; `[in, 0]` selects the model's own weight and bias. */
  readonly weight: string
  /** float32 `[out]`, `[0]` for the model's own; undefined if the layer has no bias. */
  readonly bias: string | undefined
}

/** Adds the inputs. With an empty weight the layer gives its original output, otherwise x·W + b in float32. */
export function makeReplaceable(
  { graph }: OnnxModel,
  { module, layer, hasFreeWidth = false }: Replaceable,
): WeightInputs {
  const { inFeatures, outFeatures } = layer
  const inputs = {
    weight: `${DOMAIN}.${module}.weight`,
    bias: biasOf(layer) ? `${DOMAIN}.${module}.bias` : undefined,
  }
  const features = hasFreeWidth ? `${DOMAIN}_${module}_features` : `${DOMAIN}_${outFeatures}_or_0`
  if (hasFreeWidth) setWidth(graph, valuesOfFreeWidth(layer) ?? [], openWidth)
  graph.addInput({ name: inputs.weight, dataType: DataType.float, dims: [inFeatures, features] })
  if (inputs.bias) graph.addInput({ name: inputs.bias, dataType: DataType.float, dims: [features] })
  for (const product of productsOf(layer)) insertChoice(product, inputs, hasFreeWidth)
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

/** Inserts an `If` that gives the original output or the output of the new weight. */
function insertChoice(layer: LinearLayer, inputs: WeightInputs, hasFreeWidth: boolean): void {
  const { input } = layer
  const outputNode = outputNodeOf(layer)
  const [output] = outputNode.outputs as [string]
  const base = `${output}.${DOMAIN}.base`
  const requantising = requantise(outputNode, output)
  outputNode.setOutput(0, base)
  const { nodes, add, named, constant } = new NodeList(`${output}.${DOMAIN}.`)
  const isEmpty = add('Equal', [add('Size', [inputs.weight]), constant([0], [])])
  const original = new NodeList(`${output}.${DOMAIN}.own.`)
  original.named([`${output}.${DOMAIN}.kept`], 'Identity', [base])
  const replacement = new NodeList(`${output}.${DOMAIN}.other.`)
  const type = activationType(layer)
  const isFloat = type === DataType.float
  const x = isFloat ? input : replacement.add('Cast', [input], { to: { int: DataType.float } })
  const product = replacement.add('MatMul', [x, inputs.weight])
  const sum = inputs.bias ? replacement.add('Add', [product, inputs.bias]) : product
  const result = isFloat ? sum : replacement.add('Cast', [sum], { to: { int: type } })
  const replaced = [`${output}.${DOMAIN}.replaced`]
  // `Reshape` gives runtimes that infer shapes the shape of the original output.
  if (hasFreeWidth) replacement.named(replaced, 'Identity', [result])
  else replacement.named(replaced, 'Reshape', [result, replacement.add('Shape', [base])])
  named([output], 'If', [isEmpty], {
    then_branch: {
      graph: { name: 'own', nodes: original.nodes, outputs: [{ name: `${output}.${DOMAIN}.kept` }] },
    },
    else_branch: {
      graph: { name: 'other', nodes: replacement.nodes, outputs: [{ name: `${output}.${DOMAIN}.replaced` }] },
    },
  })
  nodes.push(...requantising)
  outputNode.graph.insertAfter(outputNode, nodes)
}
