/**
 * Finds the linear layers of a model: y = x·W (+ b) with a constant W of two dimensions, plain or quantised, wherever the graph keeps
 * it. It does not decide which of them an adapter means (`match-layers` does), and does not look for the modules that share a product
 * (`packed-layers` does).
 */
import type { OnnxGraph, OnnxNode } from '../model/graph.js'
import type { GraphIndex } from '../model/graph-index.js'
import type { OnnxModel } from '../model/model.js'
import type { OnnxTensor } from '../model/tensor.js'
import { moduleNameOf } from './module-name.js'
import { joinProducts } from './products.js'
import { dequantiserBehind, isQuantised, outputNodeOf } from './quantised-pair.js'

/** One linear layer. A branch reads `input` and is added to output 0 of `outputNode`; a bias comes after it or is in it already. */
export interface LinearLayer {
  /** The dotted name of its PyTorch module as far as the file tells, root segment included; undefined: the file does not tell. */
  readonly module: string | undefined
  readonly graph: OnnxGraph
  /** The product: MatMul, Gemm, MatMulNBits, MatMulBnb4 or MatMulInteger. */
  readonly node: OnnxNode
  /** The float value that goes in, before it is quantised for this layer. */
  readonly input: string
  /** The node with the float output, after it is scaled or dequantised. */
  readonly outputNode: OnnxNode
  /** The constant, as it is named in the file. */
  readonly weight: string
  /** d1. */
  readonly outFeatures: number
  /** d2. */
  readonly inFeatures: number
  /** Of a product that several modules share: where in its output this one lies. */
  readonly part?: PackedPart
  /** Further products of the same module, which is called more than once: what is done to the layer is done to them. */
  readonly others?: readonly LinearLayer[]
  /** Nodes that may be further products of the same module: the file alone does not tell. */
  readonly undecided?: readonly string[]
}

/** A run of the features of a packed product's output. */
export interface PackedPart {
  readonly name: 'q' | 'k' | 'v'
  /** The first of the features. */
  readonly offset: number
  /** All features of the product. */
  readonly width: number
}

interface Weight {
  readonly name: string
  readonly dims: readonly number[]
}

/** Whether two layers of one node have features of its output in common. */
export function overlap(a: LinearLayer, b: LinearLayer): boolean {
  const [from, other] = [a.part?.offset ?? 0, b.part?.offset ?? 0]
  return from < other + b.outFeatures && other < from + a.outFeatures
}

/**
 * All linear layers, in the order of the file, those in subgraphs too; a module that is called more than once is one of them:
 *
 * - `MatMul`, and `Gemm` without transA, whatever its alpha, beta and bias: what is added to its output is not multiplied by them;
 * - a weight that is an initializer (of this graph or one around it) or a `Constant`, also behind `Transpose`, `Cast`, `Identity` and
 *   `DequantizeLinear`; an input that comes through `QuantizeLinear` and `DequantizeLinear` is taken from before them, unless they are
 *   those of what makes it;
 * - `com.microsoft` `MatMulNBits` and `MatMulBnb4`, and `MatMulInteger` between `DynamicQuantizeLinear` and the `Cast` and `Mul` that scale it.
 *
 * Not found: nodes inside of model-local functions, where one node stands for many layers (inline them first, as `onnx.inliner` does), weights
 * that are computed, convolutions, and products that other operators have taken in, such as `FusedMatMul` and `com.microsoft` `Attention`.
 */
export function findLinearLayers(model: OnnxModel): LinearLayer[] {
  const layers: LinearLayer[] = []
  for (const graph of model.graph.graphs())
    for (const node of graph.nodes) {
      const found = linearLayer(graph, node, graph.index)
      if (!found?.outputNode.outputs[0]) continue
      layers.push({ ...found, module: moduleNameOf(found, graph.index) })
      graph.budget?.check('layer', layers.length, graph)
    }
  return joinProducts(withOwnInputs(layers))
}

function linearLayer(
  graph: OnnxGraph,
  node: OnnxNode,
  index: GraphIndex,
): Omit<LinearLayer, 'module'> | undefined {
  const [x, w] = node.inputs
  if (!x || !w) return undefined
  const kind = `${node.domain}:${node.opType}`
  if (kind === 'com.microsoft:MatMulNBits' || kind === 'com.microsoft:MatMulBnb4') {
    const sizes = ['K', 'N'].map((name) => Number(node.attribute(name)?.int ?? 0))
    // Its weight is `[N, K]`, and is transposed by the product unless it says otherwise.
    const isTurned = node.attribute('transB')?.int === 0n
    const [inFeatures = 0, outFeatures = 0] = isTurned ? sizes.toReversed() : sizes
    return { graph, node, input: x, outputNode: node, weight: w, outFeatures, inFeatures }
  }
  const weight =
    kind === ':MatMul' || kind === ':Gemm' || kind === ':MatMulInteger'
      ? weightOf(w, graph, index)
      : undefined
  if (weight?.dims.length !== 2) return undefined
  const [rows = 0, columns = 0] = weight.dims
  if (kind === ':MatMulInteger') {
    const quantizer = index.producers.get(x)
    const outputNode = floatOutput(node, index)
    const [input] = quantizer?.inputs ?? []
    if (quantizer?.opType !== 'DynamicQuantizeLinear' || !input || !outputNode) return undefined
    return { graph, node, input, outputNode, weight: weight.name, outFeatures: columns, inFeatures: rows }
  }
  if (kind === ':Gemm' && node.attribute('transA')?.int) return undefined
  const isTransposed = kind === ':Gemm' && Boolean(node.attribute('transB')?.int)
  const [inFeatures, outFeatures] = isTransposed ? [columns, rows] : [rows, columns]
  return {
    graph,
    node,
    input: floatInput(x, index),
    outputNode: dequantiserBehind(node) ?? node,
    weight: weight.name,
    outFeatures,
    inFeatures,
  }
}

/** A constant that reaches the product directly, or transposed, cast or dequantised on its way. */
export function weightOf(name: string, graph: OnnxGraph, index: GraphIndex, steps = 0): Weight | undefined {
  const tensor = initializerOf(name, graph)
  if (tensor) return { name, dims: tensor.dims }
  const producer = index.producers.get(name)
  if (!producer || steps > 8) return undefined
  if (producer.opType === 'Constant') {
    const constant = producer.attribute('value')?.tensor
    return constant && { name, dims: constant.dims }
  }
  if (!['Transpose', 'Cast', 'Identity', 'DequantizeLinear'].includes(producer.opType)) return undefined
  const source = weightOf(producer.inputs[0] ?? '', graph, index, steps + 1)
  return source && producer.opType === 'Transpose' ? { ...source, dims: source.dims.toReversed() } : source
}

function initializerOf(name: string, graph: OnnxGraph | undefined): OnnxTensor | undefined {
  return graph && (graph.initializers.get(name) ?? initializerOf(name, graph.parent))
}

/** Of a pair QuantizeLinear, DequantizeLinear the value before it, which the quantisation of the base has not rounded. */
function floatInput(name: string, { producers }: GraphIndex): string {
  const dequantizer = producers.get(name)
  const quantizer = producers.get(dequantizer?.inputs[0] ?? '')
  const isPair = dequantizer?.opType === 'DequantizeLinear' && quantizer?.opType === 'QuantizeLinear'
  const [before] = (isPair && quantizer.inputs) || []
  const maker = producers.get(before ?? '')
  // It would not be one operator with the pair any more.
  return before && !(maker && isQuantised(maker)) ? before : name
}

/** A layer whose input is quantised with the output of another one reads it behind the pair, where the other's branch is added. */
function withOwnInputs(layers: readonly LinearLayer[]): LinearLayer[] {
  const isPassedBy = ({ input, node }: LinearLayer) =>
    node.opType !== 'MatMulInteger' && input !== node.inputs[0]
  if (!layers.some(isPassedBy)) return [...layers]
  const outputs = new Set(layers.flatMap((layer) => outputNodeOf(layer).outputs[0] ?? []))
  return layers.map((layer) => {
    const [input = ''] = layer.node.inputs
    return isPassedBy(layer) && outputs.has(input) ? { ...layer, input } : layer
  })
}

/** MatMulInteger → Cast → Mul by the scales: the Mul. */
function floatOutput(node: OnnxNode, { consumers }: GraphIndex): OnnxNode | undefined {
  const only = (from: OnnxNode, opType: string) => {
    const [reader, ...others] = consumers.get(from.outputs[0] ?? '') ?? []
    return others.length === 0 && reader?.opType === opType ? reader : undefined
  }
  const cast = only(node, 'Cast')
  return cast && only(cast, 'Mul')
}
