/** Removes the outputs that nobody asks for, and everything that only they need. */
import { FourierFTError } from '@fourierft/core'
import type { OnnxGraph, OnnxNode } from '../../model/graph.js'
import type { OnnxModel } from '../../model/model.js'

/**
 * Removes all other outputs of the main graph, and its nodes, initializers and descriptions that the given outputs do not need. Inputs stay,
 * except those that are the defaults of removed initializers.
 *
 * @throws {FourierFTError} `INVALID_OPTION` if the graph has no output of one of the names; the model is then unchanged
 */
export function removeUnused({ graph, file }: OnnxModel, outputs: readonly string[]): void {
  const missing = outputs.find((name) => !graph.isOutput(name))
  if (missing !== undefined)
    throw new FourierFTError('INVALID_OPTION', `${file} has no output ${JSON.stringify(missing)}`, {
      file,
      option: 'outputs',
      expected: graph.outputs.map(({ name }) => name),
      received: missing,
    })
  const { nodes, values } = neededParts(graph, outputs)
  const isUnused = (name: string) => !values.has(name)
  const wanted = new Set(outputs)
  const removed = new Set([...graph.initializers.keys()].filter(isUnused))
  graph.removeNodes(graph.nodes.filter((node) => !nodes.has(node)))
  graph.removeOutputs(new Set(graph.outputs.map(({ name }) => name).filter((name) => !wanted.has(name))))
  graph.removeInitializers(removed)
  // In old models (IR version 3) initializers are inputs, too.
  graph.removeInputs(removed)
  graph.removeValueInfos(new Set(graph.valueInfos.map(({ name }) => name).filter(isUnused)))
}

export interface NeededParts {
  readonly nodes: ReadonlySet<OnnxNode>
  readonly values: ReadonlySet<string>
}

/** The nodes of the graph that compute the values, and all values that these nodes read or write. */
export function neededParts(graph: OnnxGraph, outputs: Iterable<string>): NeededParts {
  const { producers } = graph.index
  const nodes = new Set<OnnxNode>()
  const values = new Set(outputs)
  // A set is also the queue: names that are added during the loop come later.
  for (const name of values) {
    const node = producers.get(name)
    if (!node || nodes.has(node)) continue
    nodes.add(node)
    for (const output of node.outputs) values.add(output)
    for (const input of valuesUsed(node)) values.add(input)
  }
  return { nodes, values }
}

/** The values that the node reads. A graph inside it may also have an outer value as its output. */
function valuesUsed({ inputs, subgraphs }: OnnxNode): string[] {
  const outputs = subgraphs.flatMap((inner) => inner.graphs().flatMap((graph) => graph.outputs))
  return [
    ...inputs,
    ...subgraphs.flatMap((graph) => Array.from(graph.namesRead())),
    ...outputs.map(({ name }) => name),
  ]
}
