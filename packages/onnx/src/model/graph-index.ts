/**
 * Which nodes of a graph write and read each value. Without it, finding and attaching would take quadratic time. Each graph keeps one index,
 * and its edits keep the index up to date.
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

  /** A node is kept once, even if it is added for each of its inputs of that name. The empty name is that of omitted optional values. */
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
      const left = found.filter((one) => one !== node)
      this.#nodes.set(name, left.length === 1 ? left[0] : left)
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
  readonly #inside = new Map<string, Set<Graph>>()

  constructor(nodes: readonly Node[]) {
    this.producers = { get: (name) => this.#writers.first(name) }
    this.consumers = { get: (name) => this.#readers.all(name) }
    for (const node of nodes) this.add(node)
  }

  add(node: Node): void {
    for (const name of node.outputs) this.#writers.add(name, node)
    for (const name of node.inputs) this.#readers.add(name, node)
    for (const graph of node.subgraphs) for (const name of graph.namesRead()) this.noteInside(name, graph)
  }

  remove(node: Node): void {
    for (const name of node.outputs) this.#writers.delete(name, node)
    for (const name of node.inputs) this.#readers.delete(name, node)
  }

  /** Takes note of an edit of the node's inputs or outputs. */
  update(node: Node, kind: 'inputs' | 'outputs', before: readonly string[]): void {
    const nodes = kind === 'inputs' ? this.#readers : this.#writers
    const now = node[kind]
    for (const name of before) if (!now.includes(name)) nodes.delete(name, node)
    for (const name of now) if (!before.includes(name)) nodes.add(name, node)
  }

  /** Takes note that a graph inside one of the nodes reads the value. */
  noteInside(name: string, graph: Graph): void {
    const graphs = this.#inside.get(name)
    if (graphs) graphs.add(graph)
    else this.#inside.set(name, new Set([graph]))
  }

  /** The graphs directly inside this one that may read the value. */
  inside(name: string): Iterable<Graph> {
    return this.#inside.get(name) ?? []
  }

  /** The names of the values that this graph and the graphs inside it read. */
  *namesRead(): Generator<string> {
    yield* this.#readers.names()
    yield* this.#inside.keys()
  }
}
