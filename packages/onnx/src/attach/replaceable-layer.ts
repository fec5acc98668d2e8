/** Layers whose weight and bias adapters replace, PEFT's `modules_to_save`: the new weight and bias are inputs of the model. */
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

/** A layer whose weight and bias adapters replace: PEFT's `modules_to_save`. */
export interface Replaceable {
  readonly module: string
  readonly layer: LinearLayer
  /** Whether adapters may bring another number of `outFeatures`, as heads with other labels do. The graph must allow it: `valuesOfFreeWidth`. */
  readonly hasFreeWidth?: boolean
}

export interface WeightInputs {
  /** float32 `[in, out]`, the transpose of PyTorch's; `[in, 0]` selects the model's own weight and bias. */
  readonly weight: string
  /** float32 `[out]`, `[0]` for the model's own; undefined if the layer has no bias. */
  readonly bias: string | undefined
}

/** Adds the inputs. With an empty weight the layer gives its own output, else x·W + b in float32. */
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

/** The fixed width that the dim had in the original file; undefined if `attachBranches` has not opened it. */
export function originalWidth(dim: number | string | undefined): number | undefined {
  const width = typeof dim === 'string' ? OPEN_WIDTH.exec(dim)?.[1] : undefined
  return width === undefined ? undefined : Number(width)
}

function insertChoice(layer: LinearLayer, inputs: WeightInputs, hasFreeWidth: boolean): void {
  const { input } = layer
  const outputNode = outputNodeOf(layer)
  const [output] = outputNode.outputs as [string]
  const base = `${output}.${DOMAIN}.base`
  const requantising = requantise(outputNode, output)
  outputNode.setOutput(0, base)
  const { nodes, add, named, constant } = new NodeList(`${output}.${DOMAIN}.`)
  const isOwn = add('Equal', [add('Size', [inputs.weight]), constant([0], [])])
  const own = new NodeList(`${output}.${DOMAIN}.own.`)
  own.named([`${output}.${DOMAIN}.kept`], 'Identity', [base])
  const other = new NodeList(`${output}.${DOMAIN}.other.`)
  const type = activationType(layer)
  const isFloat = type === DataType.float
  const x = isFloat ? input : other.add('Cast', [input], { to: { int: DataType.float } })
  const product = other.add('MatMul', [x, inputs.weight])
  const sum = inputs.bias ? other.add('Add', [product, inputs.bias]) : product
  const result = isFloat ? sum : other.add('Cast', [sum], { to: { int: type } })
  const replaced = [`${output}.${DOMAIN}.replaced`]
  // `Reshape` gives runtimes that infer shapes the shape of the original output.
  if (hasFreeWidth) other.named(replaced, 'Identity', [result])
  else other.named(replaced, 'Reshape', [result, other.add('Shape', [base])])
  named([output], 'If', [isOwn], {
    then_branch: {
      graph: { name: 'own', nodes: own.nodes, outputs: [{ name: `${output}.${DOMAIN}.kept` }] },
    },
    else_branch: {
      graph: { name: 'other', nodes: other.nodes, outputs: [{ name: `${output}.${DOMAIN}.replaced` }] },
    },
  })
  nodes.push(...requantising)
  outputNode.graph.insertAfter(outputNode, nodes)
}
