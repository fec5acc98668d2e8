/** The type that a layer computes with: what comes in and goes out, as far as the file tells it by the layer's constants. */
import { constantOf, producerOf } from '../model/constant-of.js'
import type { OnnxNode } from '../model/graph.js'
import { DataType } from '../model/schema.js'
import type { LinearLayer } from './linear-layers.js'

/** As far as `findLinearLayers` follows a weight. */
const STEPS = 9

/** A number of `DataType`; float where the file does not tell. */
export function activationsOf({ graph, node, outputNode }: LinearLayer): number {
  // The scales have the type of the activations. @see both in ONNX Runtime's docs/ContribOperators.md
  if (node.opType === 'MatMulNBits' || node.opType === 'MatMulBnb4')
    return constantOf(graph, node.inputs[2])?.dataType ?? DataType.float
  if (node.opType === 'MatMulInteger') {
    const casts = outputNode.inputs.map((input) => castOf(graph.index.producers.get(input)))
    return casts.find((to) => to !== undefined) ?? DataType.float
  }
  let name: string | undefined = node.inputs[1]
  for (let step = 0; step < STEPS && name; step++) {
    const constant = constantOf(graph, name)
    if (constant) return constant.dataType
    const producer: OnnxNode | undefined = producerOf(graph, name)
    const cast = castOf(producer)
    if (cast !== undefined) return cast
    if (producer?.opType === 'DequantizeLinear')
      return constantOf(graph, producer.inputs[1])?.dataType ?? DataType.float
    name = producer?.inputs[0]
  }
  return DataType.float
}

function castOf(node: OnnxNode | undefined): number | undefined {
  const to = node?.opType === 'Cast' ? node.attribute('to')?.int : undefined
  return to === undefined ? undefined : Number(to)
}
