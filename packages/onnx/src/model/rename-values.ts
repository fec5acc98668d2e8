/** Renames nodes, and the values in a node and in the graphs inside it. */
import type { Where } from './invalid-onnx.js'
import { Attribute, Graph, Node, Tensor, ValueInfo } from './schema.js'
import { field, type WireField, type WireMessage } from './wire-message.js'

type Names = ReadonlyMap<string, string>

/**
 * Renames all values of these names, also those that the graphs inside the node define.
 *
 * @param node the message of a node that no index knows yet
 */
export function renameValues(node: WireMessage, names: Names, where: Where): void {
  if (names.size === 0) return
  for (const number of [Node.input, Node.output])
    for (const one of node.all(number)) {
      const name = names.get(one.text(where))
      if (name !== undefined) node.replace(one, field(number, name))
    }
  for (const graph of graphsInside(node, where)) {
    for (const one of graph.all(Graph.node)) renameValues(one.editableMessage(where), names, where)
    for (const number of [Graph.input, Graph.output, Graph.valueInfo])
      for (const one of graph.all(number)) renameValue(one, ValueInfo.name, names, where)
    for (const one of graph.all(Graph.initializer)) renameValue(one, Tensor.name, names, where)
  }
}

/** Renames the value that an initializer or a description names, in the field of that number. */
export function renameValue(one: WireField, number: number, names: Names, where: Where): void {
  const name = names.get(one.readOnlyMessage(where).text(number) ?? '')
  if (name === undefined) return
  const message = one.editableMessage(where)
  message.remove(message.all(number))
  message.insert([field(number, name)])
}

/** The messages of the graphs inside a node. */
export function graphsInside(node: WireMessage, where: Where): WireMessage[] {
  return node.all(Node.attribute).flatMap((one) => {
    const attribute = one.readOnlyMessage(where)
    if (attribute.count(Attribute.g) + attribute.count(Attribute.graphs) === 0) return []
    const message = one.editableMessage(where)
    return [...message.all(Attribute.g), ...message.all(Attribute.graphs)].map((graph) =>
      graph.editableMessage(where),
    )
  })
}

/** The names of the values that a node and the graphs inside it define. */
export function namesDefinedBy(node: WireMessage, where: Where): string[] {
  const inner = graphsInside(node, where).flatMap((graph) => [
    ...graph.all(Graph.input).map((one) => one.readOnlyMessage(where).text(ValueInfo.name) ?? ''),
    ...graph.all(Graph.initializer).map((one) => one.readOnlyMessage(where).text(Tensor.name) ?? ''),
    ...graph.all(Graph.node).flatMap((one) => namesDefinedBy(one.editableMessage(where), where)),
  ])
  return [...node.all(Node.output).map((one) => one.text(where)), ...inner]
}

/** Gives a node the name that `rename` returns for its name; nodes without a name keep none. */
export function renameNode(node: WireMessage, rename: (name: string) => string): void {
  const [old, name] = [node.last(Node.name), node.text(Node.name) ?? '']
  if (!old || name === '') return
  const renamed = rename(name)
  if (renamed !== name) node.replace(old, field(Node.name, renamed))
}
