/** Checks the order of the nodes: differentiation follows it, and ONNX demands an order of execution, which a cycle does not have. */
import type { OnnxGraph } from '../../model/graph.js'
import { invalidOnnx } from '../../model/invalid-onnx.js'

/** @throws {FourierFTError} `INVALID_ONNX` if a node reads a value that no input, initializer or earlier node gives */
export function checkOrder(graph: OnnxGraph, isKnownOutside: (name: string) => boolean = () => false): void {
  const known = new Set([...graph.inputs.map(({ name }) => name), ...graph.initializers.keys(), ''])
  const isKnown = (name: string) => known.has(name) || isKnownOutside(name)
  for (const node of graph.nodes) {
    const unknown = node.inputs.find((name) => !isKnown(name))
    if (unknown !== undefined)
      throw invalidOnnx(node, `it reads ${JSON.stringify(unknown)}, which no node before it writes`)
    for (const inner of node.subgraphs) checkOrder(inner, isKnown)
    for (const output of node.outputs) known.add(output)
  }
}
