/** Operators that join tensors, cut them, pad them, or pick numbers from them. */
import type { Dim, Sizes } from '../dims.js'
import {
  axesOf,
  integersIn,
  type KnownValue,
  MAX_INTEGERS,
  type OperatorCall,
  type OperatorTable,
  onAxis,
  sizesIn,
  unknownIntegers,
} from '../known-value.js'
import { Size } from '../size.js'

const ONE = Size.of(1)
/** Exporters write this or more for "to the end". */
const END = 2 ** 31 - 1

export const SLICING: OperatorTable = [
  ['Concat', concat],
  ['Split', split],
  ['Slice', slice],
  ['Pad', pad],
  ['Gather', gather],
  ['GatherElements', ({ inputs: [, indices] }) => [{ dims: indices?.dims }]],
  ['GatherND', gatherND],
  ['GatherBlockQuantized', gatherQuantized],
]

function concat({ node, inputs, sizes }: OperatorCall): readonly KnownValue[] {
  const inputDims = inputs.map(({ dims }) => dims)
  const ranks = inputDims.map((dims) => dims?.length).filter((rank) => rank !== undefined)
  const [rank] = ranks
  if (rank === undefined) return []
  const axis = onAxis(Number(node.attribute('axis')?.int ?? 0), rank)
  const known = inputDims.filter((dims) => dims !== undefined)
  const areRanksKnown = known.length === inputDims.length && known.every((dims) => dims.length === rank)
  if (!areRanksKnown) return []
  const dims = Array.from({ length: rank }, (_, i) => {
    const axisDims = known.map((dims) => dims[i])
    return i === axis ? joinedAxis(axisDims, sizes) : axisDims.reduce((a, b) => sameAxis(a, b, sizes))
  })
  // An unknown number of a shape does not hide the known ones.
  const isVector = rank === 1 && inputs.some((input) => input.integers)
  const lists = isVector ? inputs.map((input) => input.integers ?? unknownIntegers(input, sizes)) : []
  const integers = lists.filter((list) => list !== undefined)
  const isKnown = isVector && integers.length === inputs.length && integers.flat().length <= MAX_INTEGERS
  return [{ dims, ...(isKnown && { integers: integers.flat() }) }]
}

/** Combines what is known about an axis that has the same size in two tensors. */
function sameAxis(a: Dim, b: Dim, sizes: Sizes): Dim {
  return a.size.value === 1 && b.size.value !== 1 ? b : sizes.broadcastAxis(a, b)
}

/** Joins axes end to end. If each axis has all rows of one batch, the result has all rows once for each axis. */
function joinedAxis(axisDims: readonly Dim[], sizes: Sizes): Dim {
  const [first, ...others] = axisDims as readonly [Dim, ...Dim[]]
  if (others.length === 0) return first
  const size = axisDims.map((dim) => dim.size).reduce((a, b) => sizes.plus(a, b))
  const isAllRows = axisDims.every(
    (dim) =>
      dim.rows &&
      dim.size.equals(first.size) &&
      dim.rows.batch === first.rows?.batch &&
      dim.rows.before.value === 1,
  )
  if (isAllRows && first.rows) return { size, rows: { ...first.rows, before: Size.of(axisDims.length) } }
  return axisDims.some(({ rows }) => rows) ? { size: sizes.unknown() } : { size }
}

function split({ node, inputs: [x, parts], sizes }: OperatorCall): readonly KnownValue[] {
  const count = node.outputs.length
  if (!x?.dims) return []
  const { dims } = x
  const axis = onAxis(Number(node.attribute('axis')?.int ?? 0), dims.length)
  const dim = dims[axis]
  if (!dim) return []
  const isEven = !node.inputs[1] && !integersIn(node, 'split')
  const partSizes = sizesIn(node, 'split') ?? parts?.integers
  return Array.from({ length: count }, (_, i) => {
    const size = isEven ? dim.size.dividedBy(Size.of(count)) : partSizes?.[i]
    return { dims: dims.with(axis, dim.rows ? { size: sizes.unknown() } : sizes.dim(size)) }
  })
}

function slice(call: OperatorCall): readonly KnownValue[] {
  const { node, sizes } = call
  const [x, startInput, endInput, axisInput, stepInput] = call.inputs
  if (!x?.dims) return []
  const list = (name: string, input: KnownValue | undefined) => sizesIn(node, name) ?? input?.integers
  const [starts, ends] = [list('starts', startInput), list('ends', endInput)]
  const length = starts?.length ?? ends?.length ?? startInput?.dims?.[0]?.size.value
  // The size of a broken file may be any number.
  if (length === undefined || length > x.dims.length) return []
  const axes =
    list('axes', axisInput) ?? (axisInput?.dims ? undefined : Array.from({ length }, (_, i) => Size.of(i)))
  if (!axes?.every(({ value }) => value !== undefined))
    return [{ dims: x.dims.map(() => sizes.dim(undefined)) }]
  const steps = stepInput?.dims ? stepInput.integers : axes.map(() => ONE)
  let { dims } = x
  for (const [i, { value: axis = 0 }] of axes.entries()) {
    const index = onAxis(axis, dims.length)
    const dim = dims[index]
    if (dim) dims = dims.with(index, slicedAxis(dim, starts?.[i], ends?.[i], steps?.[i], sizes))
  }
  const numbers =
    x.dims.length === 1 && x.integers && slicedNumbers(x.integers, starts?.[0], ends?.[0], steps?.[0])
  return [{ dims, ...(numbers && { integers: numbers }) }]
}

function slicedAxis(
  dim: Dim,
  start: Size | undefined,
  end: Size | undefined,
  step: Size | undefined,
  sizes: Sizes,
): Dim {
  const unknownDim = {
    size: sizes.mayContainBatch(dim.size) || dim.rows ? sizes.unknown() : sizes.computed('slice', dim.size),
  }
  if (start === undefined || end === undefined || step?.value === undefined) return unknownDim
  const isToEnd = end.equals(dim.size) || (end.value ?? 0) >= END
  if (start.value === 0 && isToEnd && step.value === 1) return dim
  // The slice has other rows, or the same ones in another order.
  if (dim.rows) return unknownDim
  const length = dim.size.value
  const clamped = (index: Size): Size => {
    const { value } = index
    if (value === undefined) return index
    if (length !== undefined)
      return Size.of(Math.min(Math.max(value < 0 ? value + length : value, 0), length))
    return value < 0 ? sizes.plus(dim.size, index) : index
  }
  if (step.value < 0) {
    const isAll = start.value === -1 && (end.value ?? 0) <= -END
    return isAll && step.value === -1 ? dim : unknownDim
  }
  const run = sizes.minus(isToEnd ? dim.size : clamped(end), clamped(start))
  if (step.value === 1) return sizes.dim(run)
  return run.value === undefined
    ? { size: sizes.computed('step', run, step) }
    : sizes.number(Math.ceil(run.value / step.value))
}

function slicedNumbers(
  integers: readonly Size[],
  start: Size | undefined,
  end: Size | undefined,
  step: Size | undefined,
): readonly Size[] | undefined {
  if (start?.value === undefined || end?.value === undefined) return undefined
  if (step?.value === 1) return integers.slice(start.value, end.value)
  return step?.value === -1 && start.value === -1 && end.value <= -END ? integers.toReversed() : undefined
}

function pad(call: OperatorCall): readonly KnownValue[] {
  const { node, inputs, sizes } = call
  const [x] = inputs
  if (!x?.dims) return []
  const rank = x.dims.length
  const pads = sizesIn(node, 'pads') ?? inputs[1]?.integers
  const axes = inputs[3]?.dims ? axesOf(call, 3)?.map((axis) => onAxis(axis, rank)) : x.dims.map((_, i) => i)
  if (!pads || !axes) return [{ dims: x.dims.map(() => sizes.dim(undefined)) }]
  return [
    {
      dims: x.dims.map((dim, i) => {
        const index = axes.indexOf(i)
        const [before, after] = [pads[index], pads[index + axes.length]]
        if (index < 0 || (before?.value === 0 && after?.value === 0)) return dim
        if (!before || !after || dim.rows) return { size: sizes.unknown() }
        return sizes.dim(sizes.plus(dim.size, sizes.plus(before, after)))
      }),
    },
  ]
}

function gather({ node, inputs: [x, indices] }: OperatorCall): readonly KnownValue[] {
  if (!x?.dims || !indices?.dims) return []
  const axis = onAxis(Number(node.attribute('axis')?.int ?? 0), x.dims.length)
  const dims = [...x.dims.slice(0, axis), ...indices.dims, ...x.dims.slice(axis + 1)]
  const integers = x.dims.length === 1 ? x.integers : undefined
  const picked = integers && indices.integers?.map(({ value }) => integers.at(value ?? integers.length))
  const isKnown = picked?.every((size) => size !== undefined)
  return [{ dims, ...(isKnown && { integers: picked }) }]
}

function gatherND({ node, inputs: [x, indices] }: OperatorCall): readonly KnownValue[] {
  const last = indices?.dims?.at(-1)?.size.value
  if (!x?.dims || !indices?.dims || last === undefined) return []
  const batch = Number(node.attribute('batch_dims')?.int ?? 0)
  return [{ dims: [...indices.dims.slice(0, -1), ...x.dims.slice(batch + last)] }]
}

/** The features are packed, so the dims do not contain their number. */
function gatherQuantized({ inputs: [x, indices], sizes }: OperatorCall): readonly KnownValue[] {
  if (x?.dims?.length !== 2 || !indices?.dims) return []
  return [{ dims: [...indices.dims, { size: sizes.computed('features', ...x.dims.map((dim) => dim.size)) }] }]
}
