/** What is known about a value of a graph, and about the inputs of one operator. */
import type { OnnxNode } from '../model/graph.js'
import { DataType } from '../model/schema.js'
import type { OnnxTensor } from '../model/tensor.js'
import { type Dims, MAX_DIMS, type Rows, type Sizes } from './dims.js'
import { Size } from './size.js'

export interface KnownValue {
  /** Undefined if even the rank is unknown. */
  readonly dims?: Dims | undefined
  /** Whether the first axis is the batch although the rank is unknown. */
  readonly isBatchFirst?: boolean
  /** The numbers of a short vector of integers, or of one integer. Graphs compute shapes with them. */
  readonly integers?: readonly Size[] | undefined
}

export const NOTHING: KnownValue = {}

/** A node, and what is known about its inputs. */
export interface OperatorCall {
  readonly node: OnnxNode
  readonly inputs: readonly KnownValue[]
  /** The tensors of the inputs that are constants. */
  readonly constants: readonly (OnnxTensor | undefined)[]
  readonly sizes: Sizes
}

/** Returns what is known about each output; unknown outputs may be missing. */
export type InferOutputs = (call: OperatorCall) => readonly KnownValue[]

/** Operators by name. Names of domains other than ONNX's and `com.microsoft` begin with the domain and a colon. */
export type OperatorTable = readonly (readonly [name: string, infer: InferOutputs])[]

/** Longer vectors are not shapes. */
export const MAX_INTEGERS = 64

/** Returns the lines of a table for several operators; `names` are separated by white space. */
export function forOperators(names: string, infer: InferOutputs): OperatorTable {
  return names
    .trim()
    .split(/\s+/)
    .map((name) => [name, infer])
}

export function knownConstant({ dims, dataType, data }: OnnxTensor, sizes: Sizes): KnownValue {
  if (dims.length > MAX_DIMS) return NOTHING
  const known = { dims: dims.map((size) => sizes.number(size)) }
  const count = dims.reduce((product, size) => product * size, 1)
  const width = dataType === DataType.int64 ? 8 : dataType === DataType.int32 ? 4 : 0
  if (width === 0 || dims.length > 1 || count > MAX_INTEGERS) return known
  const bytes = data()
  if (bytes?.length !== count * width) return known
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const integers = Array.from({ length: count }, (_, i) =>
    Size.of(width === 8 ? Number(view.getBigInt64(8 * i, true)) : view.getInt32(4 * i, true)),
  )
  return { ...known, integers }
}

/** Returns what is known about a value that is one of two, such as an output of an `If`. */
export function eitherValue(a: KnownValue, b: KnownValue, sizes: Sizes): KnownValue {
  const [dimsA, dimsB] = [a.dims, b.dims]
  if (!dimsA || !dimsB || dimsA.length !== dimsB.length) return NOTHING
  const isSame = (x: Rows | undefined, y: Rows | undefined) =>
    x?.batch === y?.batch && x?.before.key === y?.before.key
  return {
    dims: dimsA.map((dim, i) => {
      const other = dimsB[i]
      if (dim.size.equals(other.size) && isSame(dim.rows, other.rows)) return dim
      if (dim.rows || other.rows || sizes.mayContainBatch(dim.size) || sizes.mayContainBatch(other.size))
        return { size: sizes.unknown() }
      return { size: sizes.computed('either', dim.size, other.size) }
    }),
  }
}

/** Returns the integers of an attribute. Long lists are cut off, because lists that describe shapes are short. */
export function integersIn(node: OnnxNode, name: string): readonly number[] | undefined {
  const integers = node.attribute(name)?.ints
  return integers && integers.length > 0
    ? Array.from(integers.subarray(0, MAX_INTEGERS + 1), Number)
    : undefined
}

export function sizesIn(node: OnnxNode, name: string): readonly Size[] | undefined {
  return integersIn(node, name)?.map((value) => Size.of(value))
}

/** Returns unknown integers for a vector of known length. */
export function unknownIntegers(x: KnownValue | undefined, sizes: Sizes): readonly Size[] | undefined {
  const length = x?.dims?.length === 1 ? x.dims[0]?.size.value : undefined
  return length !== undefined && length <= MAX_INTEGERS
    ? Array.from({ length }, () => sizes.unknown())
    : undefined
}

export function onAxis(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis
}

/** Returns the axes, which are an attribute or, from opset 13 on, an input. */
export function axesOf({ node, inputs }: OperatorCall, input: number): readonly number[] | undefined {
  const attribute = integersIn(node, 'axes')
  if (attribute) return attribute
  const numbers = inputs[input]?.integers?.map(({ value }) => value)
  return numbers?.every((value) => value !== undefined) ? numbers : undefined
}
