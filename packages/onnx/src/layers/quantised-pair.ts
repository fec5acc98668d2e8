/**
 * Pairs of `QuantizeLinear` and `DequantizeLinear` around the operators of a statically quantised file (QDQ). After such a pair a layer's
 * output is a float again. Runtimes compute an operator with integers if all its inputs come from such pairs.
 */
import { copiedAttributes } from '../model/attribute.js'
import type { NewNode } from '../model/encode.js'
import type { OnnxNode } from '../model/graph.js'
import { producerOf } from '../model/names-in-scope.js'
import { biasOf } from './layer-bias.js'
import type { LinearLayer } from './linear-layer.js'

/** Returns the node whose output 0 is the layer's output, with its bias and after the pair that quantises it. */
export function outputNodeOf(layer: Pick<LinearLayer, 'node' | 'outputNode'>): OnnxNode {
  const node = biasOf(layer)?.node ?? layer.outputNode
  return dequantiserAfter(node) ?? node
}

/** Returns the `DequantizeLinear` after a `QuantizeLinear` of the node's output, if nothing else reads the values between them. */
export function dequantiserAfter(node: OnnxNode): OnnxNode | undefined {
  const quantiser = onlyReader(node, 'QuantizeLinear')
  return quantiser && onlyReader(quantiser, 'DequantizeLinear')
}

/** Returns whether runtimes fuse the node and the pairs around it into one integer operator. A float input or another reader prevents that. */
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

/** Returns new nodes that round `input` to `output` as the pair with this dequantiser does. */
export function samePair(dequantiser: OnnxNode, input: string, output: string): NewNode[] {
  const quantiser = producerOf(dequantiser.graph, dequantiser.inputs[0] ?? '')
  if (quantiser === undefined) return []
  const rounded = `${output}.rounded`
  const copy = ({ opType, domain, inputs, attributes }: OnnxNode, x: string, y: string): NewNode => ({
    opType,
    domain,
    inputs: [x, ...inputs.slice(1)],
    outputs: [y],
    attributes: copiedAttributes(attributes.values()),
  })
  return [copy(quantiser, input, rounded), copy(dequantiser, rounded, output)]
}

/** Returns the only reader of output 0, if it is in the same graph and the value is not an output of the graph. */
function onlyReader({ graph, outputs }: OnnxNode, opType: string): OnnxNode | undefined {
  const [output] = outputs
  if (!output || graph.isOutput(output)) return undefined
  const [reader, ...others] = graph.consumersOf(output)
  return others.length === 0 && reader?.graph === graph && reader.opType === opType ? reader : undefined
}
