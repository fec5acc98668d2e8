/** The attributes of nodes, as the file sets them. Lists and tensors are read on request. */
import type { NewAttribute } from './encode.js'
import type { Where } from './invalid-onnx.js'
import type { MemoryBudget } from './memory-budget.js'
import { Attribute, AttributeType } from './schema.js'
import { type OnnxTensor, readTensor, type TensorSource } from './tensor.js'
import type { WireMessage } from './wire-message.js'

/** The kinds of attributes that ONNX has. */
export type OnnxAttributeType = keyof typeof AttributeType

/** An attribute: the fields that the file has set. */
export interface OnnxAttribute {
  readonly name: string
  /** The kind that the file declares, otherwise the kind of the field that is set; undefined if no field is set. */
  readonly type: OnnxAttributeType | undefined
  readonly float?: number
  readonly int?: bigint
  readonly string?: string
  readonly ints: BigInt64Array
  readonly floats: Float32Array
  readonly tensor?: OnnxTensor
  /** The name of the attribute of the enclosing function that gives the value. */
  readonly reference?: string
}

/** The file of an attribute, and the memory budget for reading it. */
interface AttributeContext {
  readonly file: string
  readonly budget: MemoryBudget | undefined
  readonly where: Where
}

const TYPES: ReadonlyMap<bigint, OnnxAttributeType> = new Map(
  (Object.entries(AttributeType) as [OnnxAttributeType, number][]).map(([type, number]) => [
    BigInt(number),
    type,
  ]),
)

/** The field of each kind, for attributes without a declared kind: `type` is mandatory only since IR version 2. */
const FIELDS: readonly (readonly [field: number, type: OnnxAttributeType])[] = [
  [Attribute.f, 'float'],
  [Attribute.i, 'int'],
  [Attribute.s, 'string'],
  [Attribute.t, 'tensor'],
  [Attribute.g, 'graph'],
  [Attribute.floats, 'floats'],
  [Attribute.ints, 'ints'],
  [Attribute.strings, 'strings'],
  [Attribute.graphs, 'graphs'],
]

/** Reads an attribute. @param tensor gives the message of its tensor, if it has one */
export function readAttribute(
  message: WireMessage,
  tensor: TensorSource,
  { file, budget, where }: AttributeContext,
): OnnxAttribute {
  const float = message.float(Attribute.f)
  const int = message.integer(Attribute.i)
  const string = message.text(Attribute.s)
  const reference = message.text(Attribute.reference)
  return {
    name: message.text(Attribute.name) ?? '',
    get type() {
      return typeOf(message)
    },
    ...(float === undefined ? {} : { float }),
    ...(int === undefined ? {} : { int }),
    ...(string === undefined ? {} : { string }),
    get ints() {
      budget?.check('integer', message.countIntegers(Attribute.ints), where)
      return message.integers(Attribute.ints)
    },
    get floats() {
      return message.floats(Attribute.floats)
    },
    ...(message.count(Attribute.t) > 0 ? { tensor: readTensor(tensor, file) } : {}),
    ...(reference === undefined ? {} : { reference }),
  }
}

function typeOf(message: WireMessage): OnnxAttributeType | undefined {
  const declared = TYPES.get(message.integer(Attribute.type) ?? 0n)
  return declared ?? FIELDS.find(([field]) => message.count(field) > 0)?.[1]
}

/** Copies attributes for a new node. Leaves out the kinds that new nodes cannot have: lists of strings, tensors or graphs, and single graphs. */
export function copiedAttributes(attributes: Iterable<OnnxAttribute>): Record<string, NewAttribute> {
  const copies: Record<string, NewAttribute> = {}
  for (const attribute of attributes) {
    const copy = copyOf(attribute)
    if (copy) copies[attribute.name] = copy
  }
  return copies
}

function copyOf({
  type,
  reference,
  float,
  int,
  string,
  ints,
  floats,
  tensor,
}: OnnxAttribute): NewAttribute | undefined {
  if (type === undefined) return undefined
  if (reference !== undefined) return { reference, type }
  if (type === 'float' && float !== undefined) return { float }
  if (type === 'int' && int !== undefined) return { int }
  if (type === 'string' && string !== undefined) return { string }
  if (type === 'floats') return { floats: Array.from(floats) }
  if (type === 'ints') return { ints: Array.from(ints) }
  const data = tensor?.data()
  return type === 'tensor' && tensor && data ? { tensor: { ...headerOf(tensor), data } } : undefined
}

function headerOf({ name, dims, dataType }: OnnxTensor) {
  return { ...(name === '' ? {} : { name }), dims, dataType }
}
