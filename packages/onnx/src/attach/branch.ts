/**
 * A branch, y += ΔW x, and the nodes that add it to a layer. The insertion point matters: runtimes fuse a product with its bias, its
 * quantisation and its residual connection, and a node between them would prevent that and change the model's rounding.
 */
import type { Entries } from '@fourierft/core'
import { activationType } from '../layers/activation-type.js'
import { biasOf } from '../layers/layer-bias.js'
import type { LinearLayer } from '../layers/linear-layer.js'
import { isQuantised, outputNodeOf, samePair } from '../layers/quantised-pair.js'
import type { NewNode } from '../model/encode.js'
import type { OnnxNode } from '../model/graph.js'
import { constantOf } from '../model/names-in-scope.js'
import { NodeList } from '../model/node-list.js'
import { DataType } from '../model/schema.js'
import type { RowPosition } from '../shapes/batch-axis.js'
import { DOMAIN } from './functions/branch-function.js'
import { rowsOfTokens } from './row-nodes.js'

/** A branch to attach: the layer that it changes, and the entries of its ΔW. */
export interface Branch {
  /** The module's name, as in the adapter's file. */
  readonly module: string
  readonly layer: LinearLayer
  /** For the layer's shape `[d1, d2]`. */
  readonly entries: Entries
}

/** The inputs of a branch's node besides x and the base, and the position of the rows in x. */
export interface BranchInputs {
  /** Coefficients, rows and tables. */
  readonly inputs: readonly string[]
  readonly position: RowPosition
}

/** Adds a branch to one product of a layer. */
export function insertBranch(layer: LinearLayer, inputs: BranchInputs): void {
  const residual = layer.part ? undefined : residualOf(layer)
  if (residual) insertIntoResidual(layer, residual, inputs)
  else insertAfterLayer(layer, inputs)
}

/** The value that a residual connection adds to the layer's output. A branch may be added to it instead of the output: the sum is the same. */
interface Residual {
  /** The `Add`. */
  readonly node: OnnxNode
  /** The index of the value among the inputs. */
  readonly index: number
  readonly name: string
  readonly layerOutput: string
}

/** Runtimes fuse these with the product, bias and residual connection before them. */
const NORMALISATIONS = ['LayerNormalization', 'SimplifiedLayerNormalization', 'ReduceMean']

/** Returns the residual connection between the layer and a normalisation, if nothing else reads the layer's output. */
function residualOf(layer: LinearLayer): Residual | undefined {
  const bias = biasOf(layer)
  if (bias?.node.opType !== 'Add') return undefined
  const { graph } = bias.node
  const [output] = bias.node.outputs as [string]
  const [node, ...others] = graph.consumersOf(output)
  if (node?.opType !== 'Add' || node.graph !== graph || others.length > 0) return undefined
  if (graph.isOutput(output)) return undefined
  const index = node.inputs.findIndex((input) => input !== output)
  const name = node.inputs[index]
  if (!name || constantOf(graph, name)) return undefined
  const isNormalised = graph
    .consumersOf(node.outputs[0] ?? '')
    .some(({ opType }) => NORMALISATIONS.includes(opType))
  return isNormalised ? { node, index, name, layerOutput: output } : undefined
}

/** Adds the branch to the other value of the residual connection. */
function insertIntoResidual(layer: LinearLayer, residual: Residual, inputs: BranchInputs): void {
  const { node, index, name, layerOutput } = residual
  const sum = substituteName(name, layerOutput)
  const list = new NodeList(`${layerOutput}.${DOMAIN}.`)
  addBranch(list, { layer, base: name, sum, ...inputs, name: `${layer.node.name || layerOutput}/${DOMAIN}` })
  node.graph.insertBefore(node, list.nodes)
  node.setInput(index, sum)
}

/** Renames the layer's output; the branch's node writes the old name, so that every reader reads the sum. */
function insertAfterLayer(layer: LinearLayer, inputs: BranchInputs): void {
  const { part, outFeatures } = layer
  // After the bias and the quantisation, which runtimes fuse with the product.
  const outputNode = outputNodeOf(layer)
  const [output] = outputNode.outputs as [string]
  const list = new NodeList(`${output}.${DOMAIN}.`)
  const { add, constant } = list
  const base = `${output}.${DOMAIN}.base`
  /** Slices features `[start, end)`; returns no name if the range is empty. */
  const slice = (start: number, end: number) =>
    start === end ? [] : [add('Slice', [base, constant([start]), constant([end]), constant([-1])])]

  const requantising = requantise(outputNode, output)
  outputNode.setOutput(0, base)
  const name = `${outputNode.name || output}/${DOMAIN}`
  if (part) {
    const end = part.offset + outFeatures
    const partBase = slice(part.offset, end)[0] ?? base
    const sum = `${output}.${DOMAIN}.part`
    addBranch(list, { layer, base: partBase, sum, ...inputs, name: `${name}.${part.name}` })
    const features = [...slice(0, part.offset), sum, ...slice(end, part.width)]
    list.named([output], 'Concat', features, { axis: { int: -1 } })
  } else {
    addBranch(list, { layer, base, sum: output, ...inputs, name })
  }
  list.nodes.push(...requantising)
  outputNode.graph.insertAfter(outputNode, list.nodes)
}

/**
 * Lets quantised operators read a copy of the new output that is rounded as the original output was. Branches on those operators read the
 * new output itself.
 *
 * @returns the nodes that round the new output
 */
export function requantise(outputNode: OnnxNode, output: string): NewNode[] {
  if (outputNode.opType !== 'DequantizeLinear') return []
  const readers = outputNode.graph.consumersOf(output).filter(isQuantised)
  if (readers.length === 0) return []
  const rounded = substituteName(output, outputNode.inputs[0] ?? '')
  for (const reader of readers)
    for (const [i, name] of reader.inputs.entries()) if (name === output) reader.setInput(i, rounded)
  return samePair(outputNode, output, rounded)
}

interface BranchNode extends BranchInputs {
  readonly layer: LinearLayer
  readonly base: string
  /** The name of the result. */
  readonly sum: string
  /** The name of the node. */
  readonly name: string
}

/** sum = base + Δy, computed in float32 and cast to the layer's type. */
function addBranch(list: NodeList, { layer, base, sum, inputs, position, name }: BranchNode): void {
  const type = activationType(layer)
  const isFloat = type === DataType.float
  const toFloat = (tensor: string) =>
    isFloat ? tensor : list.add('Cast', [tensor], { to: { int: DataType.float } })
  const result = isFloat ? sum : `${sum}.${DOMAIN}.wide`
  const [coefficients = '', rows = '', ...tables] = inputs
  const tokenRows = rowsOfTokens(list, layer.input, rows, position)
  const nodeInputs = [toFloat(layer.input), toFloat(base), coefficients, tokenRows, ...tables]
  list.nodes.push({ name, opType: 'FourierFT', domain: DOMAIN, inputs: nodeInputs, outputs: [result] })
  if (!isFloat) list.named([sum], 'Cast', [result], { to: { int: type } })
}

const SUBSTITUTE = new RegExp(`^(.*?)\\.${DOMAIN}\\.instead\\.`, 's')

/** The name of a value that a residual connection, or a quantised operator, reads instead of `name`. */
function substituteName(name: string, suffix: string): string {
  return `${name}.${DOMAIN}.instead.${suffix}`
}

/** Returns the name that a substitute replaced; other names as they are. */
export function originalName(name: string): string {
  return SUBSTITUTE.exec(name)?.[1] ?? name
}
