/** The names of all values of a model, so that new and moved values get free ones. */
import type { OnnxGraph, OnnxNode } from '../../model/graph.js'
import type { OnnxModel } from '../../model/model.js'

export class Names {
  /** Graphs that do not see each other may define values of one name. */
  readonly #counts = new Map<string, number>()

  constructor({ graph }: OnnxModel) {
    this.#count(graph, 1)
  }

  isTaken(name: string): boolean {
    return (this.#counts.get(name) ?? 0) > 0
  }

  take(name: string): void {
    this.#change(name, 1)
  }

  /** Takes a name that no value has: the given one, or that with a number after it. */
  free(name: string): string {
    let candidate = name
    for (let i = 2; this.isTaken(candidate); i++) candidate = `${name}.${i}`
    this.take(candidate)
    return candidate
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
    for (const graph of outer.graphs()) for (const name of definedNames(graph)) this.#change(name, by)
  }

  #change(name: string, by: number): void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + by)
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
