/** The bodies of model-local functions, and their nodes with the values and attributes of one call. */
import type { Where } from './invalid-onnx.js'
import { graphsInside, namesDefinedBy, renameNode, renameValues } from './rename-values.js'
import { Attribute, Graph, LocalFunction, Node, OperatorSet } from './schema.js'
import { field, readMessage, type WireField, type WireMessage } from './wire-message.js'

export interface FunctionBody {
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  /** The names of the values that its nodes write. */
  readonly values: ReadonlySet<string>
  /** The names of all values that it defines, also in graphs inside its nodes. */
  readonly definedNames: ReadonlySet<string>
  readonly nodes: readonly WireField[]
  /** The default of each attribute that has one. */
  readonly defaults: ReadonlyMap<string, WireField>
  readonly opsetImports: ReadonlyMap<string, number>
}

export function readFunctionBody(message: WireMessage, where: Where): FunctionBody {
  const texts = (number: number) => message.all(number).map((one) => one.text(where))
  const nodes = message.all(LocalFunction.node)
  const imports = message.all(LocalFunction.opsetImport).map((one) => {
    const opset = one.readOnlyMessage(where)
    return [opset.text(OperatorSet.domain) ?? '', Number(opset.integer(OperatorSet.version) ?? 0n)] as const
  })
  return {
    inputs: texts(LocalFunction.input),
    outputs: texts(LocalFunction.output),
    values: new Set(
      nodes.flatMap((one) =>
        one
          .editableMessage(where)
          .all(Node.output)
          .map((output) => output.text(where)),
      ),
    ),
    definedNames: new Set(nodes.flatMap((one) => namesDefinedBy(one.editableMessage(where), where))),
    nodes,
    defaults: byName(message.all(LocalFunction.attributeDefault), where),
    opsetImports: new Map(imports),
  }
}

export interface FunctionCall {
  /** The message of the node that calls the function. */
  readonly node: WireMessage
  /** The names of the body's values in the graph of the call. */
  readonly names: ReadonlyMap<string, string>
  /** Gives each copied node its name. */
  readonly nodeName: (name: string) => string
}

/** Copies of the nodes of the body, for one call. */
export function nodesOfCall(
  { nodes, defaults }: FunctionBody,
  { node, names, nodeName }: FunctionCall,
  where: Where,
): WireField[] {
  const attributes = new Map([...defaults, ...byName(node.all(Node.attribute), where)])
  return nodes.map((one) => {
    const copy = field(Graph.node, payloadOf(one))
    const message = copy.editableMessage(where)
    resolveReferences(message, attributes, where)
    renameValues(message, names, where)
    renameNode(message, nodeName)
    return copy
  })
}

function byName(attributes: readonly WireField[], where: Where): Map<string, WireField> {
  return new Map(attributes.map((one) => [one.readOnlyMessage(where).text(Attribute.name) ?? '', one]))
}

/** Gives attributes that refer to one of the function its value; those without a value are removed. */
function resolveReferences(node: WireMessage, values: ReadonlyMap<string, WireField>, where: Where): void {
  for (const one of node.all(Node.attribute)) {
    const attribute = one.readOnlyMessage(where)
    const reference = attribute.text(Attribute.reference) ?? ''
    if (reference === '') continue
    const value = values.get(reference)
    if (value) node.replace(one, renamed(value, attribute.text(Attribute.name) ?? '', where))
    else node.remove([one])
  }
  for (const graph of graphsInside(node, where))
    for (const inner of graph.all(Graph.node)) resolveReferences(inner.editableMessage(where), values, where)
}

function renamed(attribute: WireField, name: string, where: Where): WireField {
  const copy = readMessage(payloadOf(attribute), where)
  copy.remove(copy.all(Attribute.name))
  copy.insert([field(Attribute.name, name)])
  return field(Node.attribute, copy)
}

/** The bytes of a message, with its edits. */
export function payloadOf(one: WireField): Uint8Array {
  if (!one.editedMessage?.isChanged) return one.value
  const parts: Uint8Array[] = []
  one.editedMessage.writeTo(parts)
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0))
  let offset = 0
  for (const part of parts) {
    bytes.set(part, offset)
    offset += part.length
  }
  return bytes
}
