/** Operators that make tensors only from sizes or indices, and the indices of numbers that are not 0. */
import {
  type KnownValue,
  knownConstant,
  MAX_INTEGERS,
  type OperatorCall,
  type OperatorTable,
  onAxis,
  unknownIntegers,
} from '../known-value.js'

export const GENERATORS: OperatorTable = [
  ['ConstantOfShape', constantOfShape],
  ['Range', range],
  ['OneHot', oneHot],
  ['NonZero', nonZero],
]

function constantOfShape({ node, inputs: [target], sizes }: OperatorCall): readonly KnownValue[] {
  const shape = target?.integers ?? unknownIntegers(target, sizes)
  if (!shape) return []
  const dims = shape.map((size) => sizes.dim(size, true))
  const [length] = shape
  const tensor = node.attribute('value')?.tensor
  const value = tensor && knownConstant(tensor, sizes).integers?.[0]
  const count = shape.length === 1 ? length?.value : undefined
  const isShort = value && count !== undefined && count >= 0 && count <= MAX_INTEGERS
  return [{ dims, ...(isShort && { integers: Array.from({ length: count }, () => value) }) }]
}

function range({ inputs, sizes }: OperatorCall): readonly KnownValue[] {
  const [start, limit, delta] = inputs.map(({ integers }) => integers?.[0])
  if (!start || !limit || !delta) return [{ dims: [{ size: sizes.unknown() }] }]
  const length = sizes.minus(limit, start)
  return [{ dims: [sizes.dim(delta.value === 1 ? length : sizes.quotient(length, delta))] }]
}

function oneHot({ node, inputs: [indices, depth], sizes }: OperatorCall): readonly KnownValue[] {
  if (!indices?.dims) return []
  const axis = onAxis(Number(node.attribute('axis')?.int ?? -1), indices.dims.length + 1)
  return [{ dims: indices.dims.toSpliced(axis, 0, sizes.dim(depth?.integers?.[0])) }]
}

function nonZero({ inputs: [x], sizes }: OperatorCall): readonly KnownValue[] {
  return [{ dims: [x?.dims ? sizes.number(x.dims.length) : sizes.dim(undefined), sizes.dim(undefined)] }]
}
