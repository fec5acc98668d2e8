/** Encodes new parts of a model: plain objects become ONNX messages. Data are kept as views. */
import {
  Attribute,
  AttributeType,
  Dimension,
  Entry,
  Graph,
  LocalFunction,
  Node,
  OperatorSet,
  Shape,
  Tensor,
  TensorType,
  Type,
  ValueInfo,
} from './schema.js'
import { field, floatField, message, type WireField, type WireMessage } from './wire-message.js'

/** A tensor with its data: little-endian, row-major, of the `dataType` of {@link DataType}. */
export interface NewTensor {
  readonly name?: string
  readonly dims: readonly number[]
  readonly dataType: number
  readonly data: Uint8Array
}

/** A graph input or output. In `dims`, numbers are fixed sizes, and strings name variable ones. */
export interface NewValue {
  readonly name: string
  readonly dataType: number
  /** Undefined: the rank is unknown. */
  readonly dims: readonly (number | string)[] | undefined
}

/** One attribute; `reference` names an attribute of the enclosing function, which gives the value. */
export type NewAttribute =
  | { readonly float: number }
  | { readonly int: number | bigint }
  | { readonly string: string }
  | { readonly tensor: NewTensor }
  | { readonly graph: NewGraph }
  | { readonly floats: readonly number[] }
  | { readonly ints: readonly (number | bigint)[] }
  | { readonly reference: string; readonly type: keyof typeof AttributeType }

export interface NewNode {
  readonly name?: string
  readonly opType: string
  readonly domain?: string
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly attributes?: Readonly<Record<string, NewAttribute>>
}

/** A node of an existing model. */
export interface ExistingNode {
  readonly field: WireField
}

/** The graph of a new model, or one inside a node, such as `then_branch` of `If`. */
export interface NewGraph {
  readonly name: string
  readonly nodes: readonly NewNode[]
  /** Nodes of the model to move here, before the new ones. */
  readonly moved?: readonly ExistingNode[]
  readonly inputs?: readonly NewValue[]
  readonly outputs: readonly (NewValue | { readonly name: string })[]
  readonly initializers?: readonly NewTensor[]
}

/** A model-local function. `attributes` lists the names of attributes without a default, `defaults` those with one. */
export interface NewFunction {
  readonly domain: string
  readonly name: string
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly attributes?: readonly string[]
  readonly defaults?: Readonly<Record<string, NewAttribute>>
  readonly nodes: readonly NewNode[]
  readonly opsetImports: ReadonlyMap<string, number>
}

export function encodeTensor({ name, dims, dataType, data }: NewTensor): WireMessage {
  return message(
    ...dims.map((size) => field(Tensor.dims, size)),
    field(Tensor.dataType, dataType),
    ...(name === undefined ? [] : [field(Tensor.name, name)]),
    field(Tensor.rawData, data),
  )
}

export function encodeValue(value: NewValue | { readonly name: string }): WireMessage {
  const name = field(ValueInfo.name, value.name)
  if (!('dataType' in value)) return message(name)
  const dims = value.dims?.map((size) => {
    const number = typeof size === 'number' ? Dimension.value : Dimension.parameter
    return field(Shape.dim, message(field(number, size)))
  })
  const tensor = message(
    field(TensorType.elementType, value.dataType),
    ...(dims ? [field(TensorType.shape, message(...dims))] : []),
  )
  return message(name, field(ValueInfo.type, message(field(Type.tensor, tensor))))
}

export function encodeNode({ name, opType, domain, inputs, outputs, attributes = {} }: NewNode): WireMessage {
  return message(
    ...inputs.map((input) => field(Node.input, input)),
    ...outputs.map((output) => field(Node.output, output)),
    ...(name === undefined ? [] : [field(Node.name, name)]),
    field(Node.opType, opType),
    ...Object.entries(attributes).map(([key, value]) => field(Node.attribute, encodeAttribute(key, value))),
    ...(domain === undefined ? [] : [field(Node.domain, domain)]),
  )
}

export function encodeGraph({
  name,
  nodes,
  moved = [],
  inputs = [],
  outputs,
  initializers = [],
}: NewGraph): WireMessage {
  return message(
    ...moved.map((node) => node.field),
    ...nodes.map((node) => field(Graph.node, encodeNode(node))),
    field(Graph.name, name),
    ...initializers.map((tensor) => field(Graph.initializer, encodeTensor(tensor))),
    ...inputs.map((input) => field(Graph.input, encodeValue(input))),
    ...outputs.map((output) => field(Graph.output, encodeValue(output))),
  )
}

export function encodeFunction(definition: NewFunction): WireMessage {
  const { attributes = [], defaults = {} } = definition
  return message(
    field(LocalFunction.name, definition.name),
    ...definition.inputs.map((input) => field(LocalFunction.input, input)),
    ...definition.outputs.map((output) => field(LocalFunction.output, output)),
    ...attributes.map((attribute) => field(LocalFunction.attribute, attribute)),
    ...definition.nodes.map((node) => field(LocalFunction.node, encodeNode(node))),
    ...[...definition.opsetImports].map(([domain, version]) =>
      field(LocalFunction.opsetImport, encodeOpset(domain, version)),
    ),
    field(LocalFunction.domain, definition.domain),
    ...Object.entries(defaults).map(([key, value]) =>
      field(LocalFunction.attributeDefault, encodeAttribute(key, value)),
    ),
  )
}

export function encodeOpset(domain: string, version: number): WireMessage {
  return message(field(OperatorSet.domain, domain), field(OperatorSet.version, version))
}

/** Encodes one entry of `metadata_props`. */
export function encodeEntry(key: string, value: string): WireMessage {
  return message(field(Entry.key, key), field(Entry.value, value))
}

export function encodeAttribute(name: string, value: NewAttribute): WireMessage {
  const encoded = (type: keyof typeof AttributeType, ...values: WireField[]) =>
    message(field(Attribute.name, name), ...values, field(Attribute.type, AttributeType[type]))
  if ('reference' in value) return encoded(value.type, field(Attribute.reference, value.reference))
  if ('float' in value) return encoded('float', floatField(Attribute.f, value.float))
  if ('int' in value) return encoded('int', field(Attribute.i, value.int))
  if ('string' in value) return encoded('string', field(Attribute.s, value.string))
  if ('tensor' in value) return encoded('tensor', field(Attribute.t, encodeTensor(value.tensor)))
  if ('graph' in value) return encoded('graph', field(Attribute.g, encodeGraph(value.graph)))
  if ('floats' in value)
    return encoded('floats', ...value.floats.map((number) => floatField(Attribute.floats, number)))
  return encoded('ints', ...value.ints.map((number) => field(Attribute.ints, number)))
}
