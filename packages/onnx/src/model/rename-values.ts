/** Renames nodes, and the values in a node and in the graphs inside it. */
import type { Where } from './invalid-onnx.js'
import { Attribute, Graph, Node, Tensor, ValueInfo } from './schema.js'
import { field, type WireMessage } from './wire-message.js'

type Names = ReadonlyMap<string, string>

/** @param node the message of a node that no index knows yet */
export function renameValues(node: WireMessage, names: Names, where: Where): void {
  if (names.size === 0) return
  renameTexts(node, Node.input, names, where)
  renameTexts(node, Node.output, names, where)
  for (const graph of graphsInside(node, where)) {
    const inner = withoutLocals(graph, names, where)
    for (const one of graph.all(Graph.node)) renameValues(one.message(where), inner, where)
    for (const one of graph.all(Graph.output)) renameTexts(one.message(where), ValueInfo.name, inner, where)
  }
}

/** The messages of the graphs inside a node. */
export function graphsInside(node: WireMessage, where: Where): WireMessage[] {
  return node.all(Node.attribute).flatMap((one) => {
    const attribute = one.reading(where)
    if (attribute.count(Attribute.g) + attribute.count(Attribute.graphs) === 0) return []
    const message = one.message(where)
    return [...message.all(Attribute.g), ...message.all(Attribute.graphs)].map((graph) =>
      graph.message(where),
    )
  })
}

/** The names that have their outer meaning inside the graph. */
function withoutLocals(graph: WireMessage, names: Names, where: Where): Names {
  const locals = [
    ...graph.all(Graph.input).map((one) => one.reading(where).text(ValueInfo.name)),
    ...graph.all(Graph.initializer).map((one) => one.reading(where).text(Tensor.name)),
    ...graph.all(Graph.node).flatMap((one) => outputsOf(one.reading(where), where)),
  ]
  const hidden = locals.filter((name) => name !== undefined && names.has(name))
  if (hidden.length === 0) return names
  const inner = new Map(names)
  for (const name of hidden) inner.delete(name ?? '')
  return inner
}

/** The names of a node's outputs. */
export function outputsOf(node: WireMessage, where: Where): string[] {
  const names: string[] = []
  const cursor = node.cursor()
  while (cursor.next(Node.output)) names.push(cursor.text(where))
  return names
}

/** Gives a node the name that `rename` returns for its name; nodes without a name keep none. */
export function renameNode(node: WireMessage, rename: (name: string) => string): void {
  const [old, name] = [node.last(Node.name), node.text(Node.name) ?? '']
  if (!old || name === '') return
  const renamed = rename(name)
  if (renamed !== name) node.replace(old, field(Node.name, renamed))
}

function renameTexts(message: WireMessage, number: number, names: Names, where: Where): void {
  for (const one of message.all(number)) {
    const name = names.get(one.text(where))
    if (name !== undefined) message.replace(one, field(number, name))
  }
}
