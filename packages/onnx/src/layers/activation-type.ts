/** The type of a layer's activations, its input and its output, derived from the layer's constants. */
import { constantOf } from '../model/names-in-scope.js'
import { DataType } from '../model/schema.js'
import type { LinearLayer } from './linear-layer.js'
import { castTarget, weightPath } from './weight-path.js'

/** Returns a number of `DataType`; float if the file does not declare the type. */
export function activationType({ graph, node, outputNode }: LinearLayer): number {
  // The scales have the type of the activations. @see both operators in ONNX Runtime's docs/ContribOperators.md
  if (node.opType === 'MatMulNBits' || node.opType === 'MatMulBnb4')
    return constantOf(graph, node.inputs[2])?.dataType ?? DataType.float
  if (node.opType === 'MatMulInteger') {
    const targets = outputNode.inputs.map((input) => castTarget(graph.index.producers.get(input)))
    return targets.find((target) => target !== undefined) ?? DataType.float
  }
  return weightPath(graph, node.inputs[1] ?? '')?.dataType ?? DataType.float
}
