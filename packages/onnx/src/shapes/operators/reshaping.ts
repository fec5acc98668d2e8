/** Operators that reshape, transpose or repeat a tensor, or give its shape. */
import { MAX_DIMS, type Sizes } from '../dims.js'
import {
  axesOf,
  integersIn,
  type KnownValue,
  type OperatorCall,
  type OperatorTable,
  onAxis,
  unknownIntegers,
} from '../known-value.js'
import type { Size } from '../size.js'

export const RESHAPING: OperatorTable = [
  ['Shape', shape],
  ['Size', elementCount],
  ['Reshape', reshape],
  ['Flatten', flatten],
  ['Squeeze', squeeze],
  ['Unsqueeze', unsqueeze],
  ['Transpose', transpose],
  ['Expand', expand],
  ['Tile', tile],
]

function shape({ node, inputs: [x], sizes }: OperatorCall): readonly KnownValue[] {
  if (!x?.dims) return [{ dims: [sizes.dim(undefined)] }]
  const start = Number(node.attribute('start')?.int ?? 0)
  const end = node.attribute('end')?.int
  const integers = x.dims.slice(start, end === undefined ? undefined : Number(end)).map(({ size }) => size)
  return [vector(integers, sizes)]
}

function vector(integers: readonly Size[], sizes: Sizes): KnownValue {
  return { dims: [sizes.number(integers.length)], integers }
}

function elementCount({ inputs: [x], sizes }: OperatorCall): readonly KnownValue[] {
  const count = x?.dims && sizes.product(x.dims.map(({ size }) => size))
  return [{ dims: [], ...(count && { integers: [count] }) }]
}

function reshape({ node, inputs: [x, target], sizes }: OperatorCall): readonly KnownValue[] {
  const requested = target?.integers ?? unknownIntegers(target, sizes)
  if (!requested) return []
  if (!x?.dims) return [{ dims: requested.map((size) => sizes.dim(isPositive(size) ? size : undefined)) }]
  const old = x.dims
  const keepsZero = Boolean(node.attribute('allowzero')?.int)
  const newSizes = requested.map((size, i) =>
    size.value === 0 && !keepsZero ? (old[i]?.size ?? size) : size,
  )
  const inferred = newSizes.findIndex(({ value }) => value === -1)
  if (inferred >= 0) {
    const others = newSizes.filter((_, i) => i !== inferred)
    newSizes[inferred] = inferredSize(
      sizes,
      old.map(({ size }) => size),
      others,
    )
  }
  const dims = sizes.reshaped(old, newSizes)
  return [{ dims, ...(dims.length < 2 && { integers: x.integers }) }]
}

function isPositive(size: Size): boolean {
  return size.value === undefined ? size.isNatural : size.value > 0
}

/** Returns the size that −1 represents. Factors that occur on both sides are cancelled first, because they may be unknown. */
function inferredSize(sizes: Sizes, old: readonly Size[], others: readonly Size[]): Size {
  const numerator = [...old]
  const denominator = others.filter((size) => {
    const index = numerator.findIndex((other) => other.equals(size))
    if (index >= 0) numerator.splice(index, 1)
    return index < 0
  })
  return sizes.quotient(sizes.product(numerator), sizes.product(denominator))
}

function flatten({ node, inputs: [x], sizes }: OperatorCall): readonly KnownValue[] {
  if (!x?.dims) return []
  const axis = onAxis(Number(node.attribute('axis')?.int ?? 1), x.dims.length)
  const oldSizes = x.dims.map(({ size }) => size)
  return [
    {
      dims: sizes.reshaped(x.dims, [
        sizes.product(oldSizes.slice(0, axis)),
        sizes.product(oldSizes.slice(axis)),
      ]),
    },
  ]
}

function squeeze(call: OperatorCall): readonly KnownValue[] {
  const [x] = call.inputs
  if (!x?.dims) return []
  const { dims } = x
  const axes = axesOf(call, 1)?.map((axis) => onAxis(axis, dims.length))
  if (!axes && call.inputs[1]?.dims) return []
  const kept = dims.filter(({ size }, i) => (axes ? !axes.includes(i) : size.value !== 1))
  return [{ dims: kept, integers: x.integers }]
}

function unsqueeze(call: OperatorCall): readonly KnownValue[] {
  const [x] = call.inputs
  const axes = axesOf(call, 1)
  if (!x?.dims || !axes) return []
  const rank = x.dims.length + axes.length
  if (rank > MAX_DIMS) return []
  const oldDims = [...x.dims]
  const newAxes = axes.map((axis) => onAxis(axis, rank))
  const dims = Array.from({ length: rank }, (_, i) =>
    newAxes.includes(i) ? call.sizes.number(1) : (oldDims.shift() ?? call.sizes.dim(undefined)),
  )
  return [{ dims, ...(rank < 2 && { integers: x.integers }) }]
}

function transpose({ node, inputs: [x], sizes }: OperatorCall): readonly KnownValue[] {
  if (!x?.dims) return []
  const { dims } = x
  const permutation = integersIn(node, 'perm')
  if (!permutation) return [{ dims: dims.toReversed() }]
  return [{ dims: permutation.map((axis) => dims[axis] ?? sizes.dim(undefined)) }]
}

function expand({ inputs: [x, target], sizes }: OperatorCall): readonly KnownValue[] {
  const requested = target?.integers ?? unknownIntegers(target, sizes)
  if (!x?.dims || !requested) return []
  return [{ dims: sizes.broadcast([x.dims, requested.map((size) => sizes.dim(size, true))]) }]
}

function tile({ inputs: [x, repeats], sizes }: OperatorCall): readonly KnownValue[] {
  const counts = repeats?.integers
  if (!x?.dims || !counts || counts.length !== x.dims.length) return []
  return [
    {
      dims: x.dims.map((dim, i) => {
        const times = counts[i]
        if (times.value === 1) return dim
        const size = sizes.times(dim.size, times)
        if (dim.size.value === 1) return sizes.dim(size, true)
        if (dim.rows) return { size, rows: { ...dim.rows, before: sizes.times(dim.rows.before, times) } }
        const { rows } = sizes.dim(times)
        return rows && !sizes.mayContainBatch(dim.size) ? { size, rows } : { size }
      }),
    },
  ]
}
