/**
 * `QuantizeLinear` and `DequantizeLinear` around the operators of a statically quantised file (QDQ): where a linear layer's output is a
 * float again, and which operators runtimes compute with integers because all that they read comes from such a pair.
 */
import { copiedAttributes } from '../model/attribute.js'
import type { NewNode } from '../model/encode.js'
import type { OnnxNode } from '../model/graph.js'
import { producerOf } from '../model/names-in-scope.js'
import { biasOf } from './layer-bias.js'
import type { LinearLayer } from './linear-layer.js'

/** The node whose output 0 is the layer's, bias included: behind the pair that quantises it. */
export function outputNodeOf(layer: Pick<LinearLayer, 'node' | 'outputNode'>): OnnxNode {
  const node = biasOf(layer)?.node ?? layer.outputNode
  return dequantiserBehind(node) ?? node
}

/** The `DequantizeLinear` behind a `QuantizeLinear`, if nothing else reads what is between. */
export function dequantiserBehind(node: OnnxNode): OnnxNode | undefined {
  const quantiser = onlyReader(node, 'QuantizeLinear')
  return quantiser && onlyReader(quantiser, 'DequantizeLinear')
}

/** Whether runtimes make one operator on integers of the node and what quantises around it: a float that is read or given would prevent it. */
export function isQuantised(node: OnnxNode): boolean {
  const { graph, inputs, opType } = node
  const isDequantised = (name: string) => producerOf(graph, name)?.opType === 'DequantizeLinear'
  return (
    inputs.length > 0 &&
    inputs.every((name) => name === '' || isDequantised(name)) &&
    // The output of a product may be a float (MatMulIntegerToFloat in ONNX Runtime).
    (opType === 'MatMul' || opType === 'Gemm' || onlyReader(node, 'QuantizeLinear') !== undefined)
  )
}

/** New nodes that round `from` to `to` as the pair with this dequantiser does. */
export function samePair(dequantiser: OnnxNode, from: string, to: string): NewNode[] {
  const quantiser = producerOf(dequantiser.graph, dequantiser.inputs[0] ?? '')
  if (quantiser === undefined) return []
  const rounded = `${to}.rounded`
  const copy = (of: OnnxNode, input: string, output: string): NewNode => ({
    opType: of.opType,
    domain: of.domain,
    inputs: [input, ...of.inputs.slice(1)],
    outputs: [output],
    attributes: copiedAttributes(of.attributes.values()),
  })
  return [copy(quantiser, from, rounded), copy(dequantiser, rounded, to)]
}

/** The one node that reads output 0, in the same graph, which is no output of it. */
function onlyReader({ graph, outputs }: OnnxNode, opType: string): OnnxNode | undefined {
  const [output] = outputs
  if (!output || graph.isOutput(output)) return undefined
  const [reader, ...others] = graph.consumersOf(output)
  return others.length === 0 && reader?.graph === graph && reader.opType === opType ? reader : undefined
}
