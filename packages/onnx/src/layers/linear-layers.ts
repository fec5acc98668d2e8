/**
 * Finds the linear layers of a model: y = x·W (+ b) with a constant W of two dimensions, plain or quantised. `match-layers.ts` decides
 * which of them an adapter means; `packed-layers.ts` finds the modules that share one product.
 */
import type { OnnxGraph, OnnxNode } from '../model/graph.js'
import type { OnnxModel } from '../model/model.js'
import { joinProducts } from './join-products.js'
import type { LinearLayer } from './linear-layer.js'
import { moduleNameOf } from './module-name.js'
import { dequantiserAfter, isQuantised, outputNodeOf } from './quantised-pair.js'
import { weightPath } from './weight-path.js'

/**
 * Finds all linear layers in the order of the file, also in subgraphs. A module that is called more than once is one layer. These products
 * are found:
 *
 * - `MatMul`, and `Gemm` without transA. Its alpha, beta and bias do not matter: a branch is added to the output, after them.
 * - `com.microsoft` `MatMulNBits` and `MatMulBnb4`, and `MatMulInteger` between `DynamicQuantizeLinear` and the `Cast` and `Mul` that scale it.
 *
 * The weight is an initializer or a `Constant`, of this graph or an enclosing one, also if it passes through `Transpose`, `Cast`, `Identity` and
 * `DequantizeLinear`. If the input comes through `QuantizeLinear` and `DequantizeLinear`, the layer's `input` is the value before them,
 * unless they belong to the operator that computes it.
 *
 * These are not found: nodes inside model-local functions, each of which represents many layers (inline them first, as `onnx.inliner` does),
 * computed weights, convolutions, and products inside fused operators, such as `FusedMatMul` and `com.microsoft` `Attention`.
 */
export function findLinearLayers(model: OnnxModel): LinearLayer[] {
  const layers: LinearLayer[] = []
  for (const graph of model.graph.graphs())
    for (const node of graph.nodes) {
      const found = linearLayer(graph, node)
      if (!found?.outputNode.outputs[0]) continue
      layers.push({ ...found, module: moduleNameOf(found) })
      graph.budget?.check('layer', layers.length, graph)
    }
  return joinProducts(withInputsAfterBranches(layers))
}

function linearLayer(graph: OnnxGraph, node: OnnxNode): Omit<LinearLayer, 'module'> | undefined {
  const [x, w] = node.inputs
  if (!x || !w) return undefined
  const kind = `${node.domain}:${node.opType}`
  if (kind === 'com.microsoft:MatMulNBits' || kind === 'com.microsoft:MatMulBnb4') {
    const { attributes } = node
    const [k, n] = [Number(attributes.get('K')?.int ?? 0), Number(attributes.get('N')?.int ?? 0)]
    // The weight is `[N, K]`, and the product transposes it unless transB is 0.
    const isKept = attributes.get('transB')?.int === 0n
    const [inFeatures, outFeatures] = isKept ? [n, k] : [k, n]
    return { graph, node, input: x, outputNode: node, weight: w, outFeatures, inFeatures }
  }
  if (kind !== ':MatMul' && kind !== ':Gemm' && kind !== ':MatMulInteger') return undefined
  const path = weightPath(graph, w)
  if (path?.dims.length !== 2) return undefined
  const weight = path.constant.name
  const [rows = 0, columns = 0] = path.dims
  if (kind === ':MatMulInteger') {
    const quantiser = graph.index.producers.get(x)
    const outputNode = floatOutput(node)
    const [input] = quantiser?.inputs ?? []
    if (quantiser?.opType !== 'DynamicQuantizeLinear' || !input || !outputNode) return undefined
    return { graph, node, input, outputNode, weight, outFeatures: columns, inFeatures: rows }
  }
  const attributes = kind === ':Gemm' ? node.attributes : undefined
  if (attributes?.get('transA')?.int) return undefined
  const isTransposed = Boolean(attributes?.get('transB')?.int)
  const [inFeatures, outFeatures] = isTransposed ? [columns, rows] : [rows, columns]
  return {
    graph,
    node,
    input: floatInput(graph, x),
    outputNode: dequantiserAfter(node) ?? node,
    weight,
    outFeatures,
    inFeatures,
  }
}

/** Returns the value before a pair of QuantizeLinear and DequantizeLinear, which the base model's quantisation has not rounded. */
function floatInput({ index: { producers } }: OnnxGraph, name: string): string {
  const dequantiser = producers.get(name)
  const quantiser = producers.get(dequantiser?.inputs[0] ?? '')
  const isPair = dequantiser?.opType === 'DequantizeLinear' && quantiser?.opType === 'QuantizeLinear'
  const [before] = (isPair && quantiser.inputs) || []
  const producer = producers.get(before ?? '')
  // A reader between the producer and the pair would keep runtimes from fusing them into one operator.
  return before && !(producer && isQuantised(producer)) ? before : name
}

/** Makes a layer that reads another layer's quantised output read it after the pair, so that its input includes the other layer's branch. */
function withInputsAfterBranches(layers: readonly LinearLayer[]): LinearLayer[] {
  const skipsPair = ({ input, node }: LinearLayer) =>
    node.opType !== 'MatMulInteger' && input !== node.inputs[0]
  if (!layers.some(skipsPair)) return [...layers]
  const outputs = new Set(layers.flatMap((layer) => outputNodeOf(layer).outputs[0] ?? []))
  return layers.map((layer) => {
    const [input = ''] = layer.node.inputs
    return skipsPair(layer) && outputs.has(input) ? { ...layer, input } : layer
  })
}

/** Returns the `Mul` of MatMulInteger → Cast → Mul by the scales. */
function floatOutput(node: OnnxNode): OnnxNode | undefined {
  const onlyReader = ({ graph, outputs }: OnnxNode, opType: string) => {
    const [reader, ...others] = graph.index.consumers.get(outputs[0] ?? '') ?? []
    return others.length === 0 && reader?.opType === opType ? reader : undefined
  }
  const cast = onlyReader(node, 'Cast')
  return cast && onlyReader(cast, 'Mul')
}
