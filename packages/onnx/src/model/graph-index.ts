/**
 * The nodes of a graph that write and read each value. Without this index, finding layers and attaching branches would take quadratic time.
 * Each graph keeps one index, and edits of the graph update it.
 */

/** A node of the graph, and the graphs inside it. */
interface IndexedNode<Graph> {
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly subgraphs: readonly Graph[]
}

interface IndexedGraph {
  namesRead(): Iterable<string>
}

/** The nodes of one graph by the values that they write and read, without the graphs inside them. */
export interface GraphIndex<Node> {
  /** The node that writes a value; the first one if a broken file has several. */
  readonly producers: { get(name: string): Node | undefined }
  /** The nodes that read a value, in the order of the file, then those that edits have added; undefined if there are none. */
  readonly consumers: { get(name: string): readonly Node[] | undefined }
}

/** Most values have one node, which is kept without a list around it. */
class NodesByName<Node extends object> {
  readonly #nodes = new Map<string, Node | Node[]>()

  all(name: string): readonly Node[] | undefined {
    const found = this.#nodes.get(name)
    return found === undefined || Array.isArray(found) ? found : [found]
  }

  first(name: string): Node | undefined {
    const found = this.#nodes.get(name)
    return Array.isArray(found) ? found[0] : found
  }

  /** Adds a node once, even if several of its inputs have that name. Ignores the empty name, which means an omitted optional value. */
  add(name: string, node: Node): void {
    if (name === '') return
    const found = this.#nodes.get(name)
    if (found === undefined) this.#nodes.set(name, node)
    else if (Array.isArray(found)) {
      if (found.at(-1) !== node) found.push(node)
    } else if (found !== node) this.#nodes.set(name, [found, node])
  }

  delete(name: string, node: Node): void {
    const found = this.#nodes.get(name)
    if (found === node) this.#nodes.delete(name)
    else if (Array.isArray(found)) {
      const others = found.filter((other) => other !== node)
      this.#nodes.set(name, others.length === 1 ? others[0] : others)
    }
  }

  names(): Iterable<string> {
    return this.#nodes.keys()
  }
}

/** The index of one graph. */
export class EditableIndex<Node extends IndexedNode<Graph>, Graph extends IndexedGraph>
  implements GraphIndex<Node>
{
  readonly producers: GraphIndex<Node>['producers']
  readonly consumers: GraphIndex<Node>['consumers']
  readonly #writers = new NodesByName<Node>()
  readonly #readers = new NodesByName<Node>()
  /** The graphs inside this graph's nodes that read a value of that name, or did before an edit. */
  readonly #innerReaders = new Map<string, Set<Graph>>()

  constructor(nodes: readonly Node[]) {
    this.producers = { get: (name) => this.#writers.first(name) }
    this.consumers = { get: (name) => this.#readers.all(name) }
    for (const node of nodes) this.add(node)
  }

  add(node: Node): void {
    for (const name of node.outputs) this.#writers.add(name, node)
    for (const name of node.inputs) this.#readers.add(name, node)
    for (const graph of node.subgraphs) for (const name of graph.namesRead()) this.addInnerReader(name, graph)
  }

  remove(node: Node): void {
    for (const name of node.outputs) this.#writers.delete(name, node)
    for (const name of node.inputs) this.#readers.delete(name, node)
  }

  /** Updates the index after an edit of the node's inputs or outputs. */
  update(node: Node, kind: 'inputs' | 'outputs', before: readonly string[]): void {
    const nodes = kind === 'inputs' ? this.#readers : this.#writers
    const after = node[kind]
    for (const name of before) if (!after.includes(name)) nodes.delete(name, node)
    for (const name of after) if (!before.includes(name)) nodes.add(name, node)
  }

  /** Records that a graph inside one of the nodes reads the value. */
  addInnerReader(name: string, graph: Graph): void {
    const graphs = this.#innerReaders.get(name)
    if (graphs) graphs.add(graph)
    else this.#innerReaders.set(name, new Set([graph]))
  }

  /** Returns the graphs directly inside this one that may read the value. */
  innerReaders(name: string): Iterable<Graph> {
    return this.#innerReaders.get(name) ?? []
  }

  /** Yields the names of the values that this graph and the graphs inside it read. */
  *namesRead(): Generator<string> {
    yield* this.#readers.names()
    yield* this.#innerReaders.keys()
  }
}
