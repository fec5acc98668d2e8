/** What a name stands for where a graph sees it: a constant, or the node that makes it. */
import type { OnnxGraph, OnnxNode } from './graph.js'
import type { OnnxTensor } from './tensor.js'

/** The initializer of that name: of the graph, or of one around it. */
export function initializerOf(graph: OnnxGraph | undefined, name: string): OnnxTensor | undefined {
  return graph && (graph.initializers.get(name) ?? initializerOf(graph.parent, name))
}

export function producerOf(graph: OnnxGraph | undefined, name: string): OnnxNode | undefined {
  return graph && (graph.index.producers.get(name) ?? producerOf(graph.parent, name))
}

/** What a name stands for behind `Identity` nodes, by which PyTorch's exporter lets equal tensors be one. */
export function behindIdentity(graph: OnnxGraph, name: string): { graph: OnnxGraph; name: string } {
  let value = { graph, name }
  // A file in which a value is made of itself has no end.
  for (let step = 0; step < 8; step++) {
    const maker = initializerOf(value.graph, value.name) ? undefined : producerOf(value.graph, value.name)
    if (maker?.opType !== 'Identity' || !maker.inputs[0]) break
    value = { graph: maker.graph, name: maker.inputs[0] }
  }
  return value
}

/** An initializer, or what a `Constant` holds. */
export function constantOf(graph: OnnxGraph, name: string | undefined): OnnxTensor | undefined {
  if (!name) return undefined
  return initializerOf(graph, name) ?? producerOf(graph, name)?.attribute('value')?.tensor
}
