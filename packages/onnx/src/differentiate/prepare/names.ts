/** The names of all values and nodes of a model, so that new and moved ones get free names. */
import type { OnnxGraph, OnnxNode } from '../../model/graph.js'
import type { OnnxModel } from '../../model/model.js'

export class Names {
  readonly #values = new Counts()
  readonly #nodes = new Counts()
  /** Takes a name that no node has: the given one, or that with a number after it. */
  readonly freeNode = (name: string): string => this.#nodes.free(name)

  constructor({ graph }: OnnxModel) {
    this.#count(graph, 1)
  }

  /** Takes a name that no value has: the given one, or that with a number after it. */
  free(name: string): string {
    return this.#values.free(name)
  }

  /** Takes the names that the graphs inside the node define. */
  takeInside(node: OnnxNode): void {
    for (const graph of node.subgraphs) this.#count(graph, 1)
  }

  /** Gives back the names that the graphs inside the node define. */
  releaseInside(node: OnnxNode): void {
    for (const graph of node.subgraphs) this.#count(graph, -1)
  }

  #count(outer: OnnxGraph, by: number): void {
    for (const graph of outer.graphs()) {
      for (const name of definedNames(graph)) this.#values.change(name, by)
      for (const { name } of graph.nodes) this.#nodes.change(name, by)
    }
  }
}

/** How often each name occurs: graphs that do not see each other may define values of one name. */
class Counts {
  readonly #counts = new Map<string, number>()
  /** The last number after each name, so that many equal names do not take quadratic time. */
  readonly #numbers = new Map<string, number>()

  change(name: string, by: number): void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + by)
  }

  free(name: string): string {
    let candidate = name
    while ((this.#counts.get(candidate) ?? 0) > 0) {
      const number = (this.#numbers.get(name) ?? 1) + 1
      this.#numbers.set(name, number)
      candidate = `${name}.${number}`
    }
    this.change(candidate, 1)
    return candidate
  }
}

/** The names of a graph's inputs, initializers and node outputs. */
export function definedNames({ inputs, initializers, nodes }: OnnxGraph): string[] {
  return [
    ...inputs.map(({ name }) => name),
    ...initializers.keys(),
    ...nodes.flatMap(({ outputs }) => outputs).filter((name) => name !== ''),
  ]
}
