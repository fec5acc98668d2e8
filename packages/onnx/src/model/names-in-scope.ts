/** Looks up a value's name in a graph and its enclosing graphs: its constant, or the node that writes it. */
import type { OnnxGraph, OnnxNode } from './graph.js'
import type { OnnxTensor } from './tensor.js'

/** Returns the initializer of that name, in the graph or an enclosing one. */
export function initializerOf(graph: OnnxGraph | undefined, name: string): OnnxTensor | undefined {
  return graph && (graph.initializers.get(name) ?? initializerOf(graph.parent, name))
}

/** Returns the node that writes the value, in the graph or an enclosing one. */
export function producerOf(graph: OnnxGraph | undefined, name: string): OnnxNode | undefined {
  return graph && (graph.index.producers.get(name) ?? producerOf(graph.parent, name))
}

/** Returns the source of a value that `Identity` nodes copy: PyTorch's exporter writes equal tensors once, and copies them. */
export function skipIdentity(graph: OnnxGraph, name: string): { graph: OnnxGraph; name: string } {
  let value = { graph, name }
  // The limit ends the search in a broken file in which a value is computed from itself.
  for (let step = 0; step < 8; step++) {
    const producer = initializerOf(value.graph, value.name) ? undefined : producerOf(value.graph, value.name)
    if (producer?.opType !== 'Identity' || !producer.inputs[0]) break
    value = { graph: producer.graph, name: producer.inputs[0] }
  }
  return value
}

/** Returns the tensor of an initializer or a `Constant`. */
export function constantOf(graph: OnnxGraph, name: string | undefined): OnnxTensor | undefined {
  if (!name) return undefined
  return initializerOf(graph, name) ?? producerOf(graph, name)?.attribute('value')?.tensor
}
