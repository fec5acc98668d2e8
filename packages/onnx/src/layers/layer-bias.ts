/** The constant bias of a linear layer, and the node that adds it. */

import type { OnnxNode } from '../model/graph.js'
import { behindIdentity, initializerOf, producerOf } from '../model/names-in-scope.js'
import type { LinearLayer } from './linear-layer.js'

export interface LayerBias {
  /** The product itself, or an `Add` behind it. */
  readonly node: OnnxNode
  /** Which of the node's inputs it is. */
  readonly index: number
  readonly name: string
}

/** The place of the optional bias among the inputs. @see MatMulNBits in ONNX Runtime's docs/ContribOperators.md */
const BIAS_INPUT: ReadonlyMap<string, number> = new Map([
  ['Gemm', 2],
  ['MatMulNBits', 5],
])

/**
 * The bias that the product adds itself, or that a node adds which alone reads it. Undefined: none, or one that is added elsewhere, as
 * fused operators do.
 */
export function biasOf({
  node,
  outputNode,
}: Pick<LinearLayer, 'node' | 'outputNode'>): LayerBias | undefined {
  const index = BIAS_INPUT.get(node.opType)
  const own = index === undefined ? undefined : node.inputs[index]
  if (own && index !== undefined) return { node, index, name: own }

  const { graph } = outputNode
  const [output] = outputNode.outputs as [string]
  const [reader, ...others] = graph.consumersOf(output)
  if (reader?.opType !== 'Add' || reader.graph !== graph || others.length > 0 || !reader.outputs[0])
    return undefined
  if (graph.isOutput(output)) return undefined
  const at = reader.inputs.findIndex((input) => input !== output)
  const name = reader.inputs[at]
  if (name === undefined) return undefined
  const producer = producerOf(graph, name)
  const constant = producer?.opType === 'DequantizeLinear' ? (producer.inputs[0] ?? '') : name
  const source = behindIdentity(graph, constant)
  return initializerOf(source.graph, source.name)?.dims.length === 1
    ? { node: reader, index: at, name }
    : undefined
}
