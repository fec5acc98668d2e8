/** Operators that reduce axes, or find the largest numbers along one. */
import {
  axesOf,
  forOperators,
  type KnownValue,
  type OperatorCall,
  type OperatorTable,
  onAxis,
} from '../known-value.js'

export const REDUCTIONS: OperatorTable = [
  ...forOperators(
    `ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare`,
    reduce,
  ),
  ['ArgMax', argumentIndex],
  ['ArgMin', argumentIndex],
  ['TopK', topK],
]

function reduce(call: OperatorCall): readonly KnownValue[] {
  const { node, inputs, sizes } = call
  const [x] = inputs
  if (!x?.dims) return []
  const { dims } = x
  const axes = axesOf(call, 1)?.map((axis) => onAxis(axis, dims.length))
  const keepsDims = node.attribute('keepdims')?.int !== 0n
  if (!axes && inputs[1]?.dims) return keepsDims ? [{ dims: dims.map(() => sizes.dim(undefined)) }] : []
  if (!axes?.length && node.attribute('noop_with_empty_axes')?.int) return [x]
  const isReduced = (i: number) => !axes?.length || axes.includes(i)
  const reducedDims = keepsDims
    ? dims.map((dim, i) => (isReduced(i) ? sizes.number(1) : dim))
    : dims.filter((_, i) => !isReduced(i))
  const isProduct = node.opType === 'ReduceProd' && x.integers && reducedDims.length < 2
  return [{ dims: reducedDims, ...(isProduct && { integers: [sizes.product(x.integers ?? [])] }) }]
}

function argumentIndex({ node, inputs: [x], sizes }: OperatorCall): readonly KnownValue[] {
  if (!x?.dims) return []
  const axis = onAxis(Number(node.attribute('axis')?.int ?? 0), x.dims.length)
  const keepsDims = node.attribute('keepdims')?.int !== 0n
  return [{ dims: keepsDims ? x.dims.with(axis, sizes.number(1)) : x.dims.toSpliced(axis, 1) }]
}

function topK({ node, inputs: [x, k], sizes }: OperatorCall): readonly KnownValue[] {
  if (!x?.dims) return []
  const axis = onAxis(Number(node.attribute('axis')?.int ?? -1), x.dims.length)
  if (!x.dims[axis]) return []
  const known = {
    dims: x.dims.with(axis, x.dims[axis]?.rows ? { size: sizes.unknown() } : sizes.dim(k?.integers?.[0])),
  }
  return [known, known]
}
