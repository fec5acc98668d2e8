/** The constant bias of a linear layer, and the node that adds it. */

import type { OnnxNode } from '../model/graph.js'
import { initializerOf, producerOf, skipIdentity } from '../model/names-in-scope.js'
import type { LinearLayer } from './linear-layer.js'

export interface LayerBias {
  /** The product itself, or an `Add` after it. */
  readonly node: OnnxNode
  /** The index of the bias among the node's inputs. */
  readonly index: number
  readonly name: string
}

/** The index of the optional bias among the inputs. @see MatMulNBits in ONNX Runtime's docs/ContribOperators.md */
const BIAS_INPUT: ReadonlyMap<string, number> = new Map([
  ['Gemm', 2],
  ['MatMulNBits', 5],
])

/**
 * Returns the bias that the product itself adds, or that an `Add` adds as the only reader of the product. Undefined if there is no bias, or
 * if it is added elsewhere, as in fused operators.
 */
export function biasOf({
  node,
  outputNode,
}: Pick<LinearLayer, 'node' | 'outputNode'>): LayerBias | undefined {
  const index = BIAS_INPUT.get(node.opType)
  const name = index === undefined ? undefined : node.inputs[index]
  return name && index !== undefined ? { node, index, name } : addedBias(outputNode)
}

function addedBias(outputNode: OnnxNode): LayerBias | undefined {
  const { graph } = outputNode
  const [output] = outputNode.outputs as [string]
  const [reader, ...others] = graph.consumersOf(output)
  if (reader?.opType !== 'Add' || reader.graph !== graph || others.length > 0 || !reader.outputs[0])
    return undefined
  if (graph.isOutput(output)) return undefined
  const index = reader.inputs.findIndex((input) => input !== output)
  const name = reader.inputs[index]
  if (name === undefined) return undefined
  const producer = producerOf(graph, name)
  const constant = producer?.opType === 'DequantizeLinear' ? (producer.inputs[0] ?? '') : name
  const source = skipIdentity(graph, constant)
  return initializerOf(source.graph, source.name)?.dims.length === 1
    ? { node: reader, index, name }
    : undefined
}
