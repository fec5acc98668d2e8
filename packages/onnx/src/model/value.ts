/** The values of a graph as the file describes them: name, type and dims. */
import type { Where } from './invalid-onnx.js'
import { Dimension, Shape, TensorType, Type, ValueInfo } from './schema.js'
import { checkRank } from './tensor.js'
import type { WireMessage } from './wire-message.js'

/** The description of a value in the file; `undefined` means that the file has none. */
export interface OnnxValue {
  readonly name: string
  /** A number of {@link DataType}; undefined if the file does not declare it, or if the value is not a tensor. */
  readonly dataType: number | undefined
  /** Numbers are fixed sizes, and strings name variable ones. If the whole list is undefined, the rank is unknown. */
  readonly dims: readonly (number | string | undefined)[] | undefined
}

export function readValue(value: WireMessage, where: Where): OnnxValue {
  const tensor = value.readOnlyMessage(ValueInfo.type)?.readOnlyMessage(Type.tensor)
  const dataType = tensor?.integer(TensorType.elementType)
  const shape = tensor?.readOnlyMessage(TensorType.shape)
  return {
    name: value.text(ValueInfo.name) ?? '',
    dataType: dataType === undefined ? undefined : Number(dataType),
    dims: shape && dimsOf(shape, where),
  }
}

function dimsOf(shape: WireMessage, where: Where): (number | string | undefined)[] {
  checkRank(shape.count(Shape.dim), where)
  const dims: (number | string | undefined)[] = []
  const cursor = shape.cursor()
  while (cursor.next(Shape.dim)) {
    const dim = cursor.readOnlyMessage(where)
    const size = dim.integer(Dimension.value)
    dims.push(size === undefined ? dim.text(Dimension.parameter) : Number(size))
  }
  return dims
}
