/**
 * Which nodes of a graph make and read each value. Looking for them node by node would make finding and attaching take quadratic time: the graph
 * keeps this one index, and its edits keep it up to date.
 */
import type { OnnxGraph, OnnxNode } from './graph.js'

/** What is read of one graph again and again; the graphs inside of its nodes are apart. */
export interface GraphIndex {
  /** The node that makes a value: the first one, if a broken file has several. */
  readonly producers: { get(name: string): OnnxNode | undefined }
  /** The nodes that read a value, in the order of the file; what edits add is behind them. Undefined: none. */
  readonly consumers: { get(name: string): readonly OnnxNode[] | undefined }
}

/** Most values have one node, which is then kept without a list around it. */
class NodesByName {
  readonly #nodes = new Map<string, OnnxNode | OnnxNode[]>()

  all(name: string): readonly OnnxNode[] | undefined {
    const found = this.#nodes.get(name)
    return found === undefined || Array.isArray(found) ? found : [found]
  }

  first(name: string): OnnxNode | undefined {
    const found = this.#nodes.get(name)
    return Array.isArray(found) ? found[0] : found
  }

  /** The node is there once, even if it is added for each of its inputs of that name. Optional values that are left out have no name. */
  add(name: string, node: OnnxNode): void {
    if (name === '') return
    const found = this.#nodes.get(name)
    if (found === undefined) this.#nodes.set(name, node)
    else if (Array.isArray(found)) {
      if (found.at(-1) !== node) found.push(node)
    } else if (found !== node) this.#nodes.set(name, [found, node])
  }

  delete(name: string, node: OnnxNode): void {
    const found = this.#nodes.get(name)
    if (found === node) this.#nodes.delete(name)
    else if (Array.isArray(found)) {
      const left = found.filter((one) => one !== node)
      this.#nodes.set(name, left.length === 1 ? left[0] : left)
    }
  }

  names(): Iterable<string> {
    return this.#nodes.keys()
  }
}

/** The index of one graph. */
export class EditableIndex implements GraphIndex {
  readonly producers: GraphIndex['producers']
  readonly consumers: GraphIndex['consumers']
  readonly #makers = new NodesByName()
  readonly #readers = new NodesByName()
  /** The graphs of this graph's nodes in which a value of that name is read, or was before an edit. */
  readonly #inside = new Map<string, Set<OnnxGraph>>()

  constructor(nodes: readonly OnnxNode[]) {
    this.producers = { get: (name) => this.#makers.first(name) }
    this.consumers = { get: (name) => this.#readers.all(name) }
    for (const node of nodes) this.add(node)
  }

  add(node: OnnxNode): void {
    for (const name of node.outputs) this.#makers.add(name, node)
    for (const name of node.inputs) this.#readers.add(name, node)
    for (const graph of node.subgraphs) for (const name of graph.namesRead()) this.noteInside(name, graph)
  }

  remove(node: OnnxNode): void {
    for (const name of node.outputs) this.#makers.delete(name, node)
    for (const name of node.inputs) this.#readers.delete(name, node)
  }

  /** The node had other inputs or outputs before. */
  update(node: OnnxNode, kind: 'inputs' | 'outputs', before: readonly string[]): void {
    const nodes = kind === 'inputs' ? this.#readers : this.#makers
    const now = node[kind]
    for (const name of before) if (!now.includes(name)) nodes.delete(name, node)
    for (const name of now) if (!before.includes(name)) nodes.add(name, node)
  }

  /** Another graph, of one of the nodes, reads the name. */
  noteInside(name: string, graph: OnnxGraph): void {
    const graphs = this.#inside.get(name)
    if (graphs) graphs.add(graph)
    else this.#inside.set(name, new Set([graph]))
  }

  /** The graphs right inside of this one that may read the value. */
  inside(name: string): Iterable<OnnxGraph> {
    return this.#inside.get(name) ?? []
  }

  /** What is read here or in a graph inside. */
  *namesRead(): Generator<string> {
    yield* this.#readers.names()
    yield* this.#inside.keys()
  }
}
