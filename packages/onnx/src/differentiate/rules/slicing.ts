/** Operators that take parts of tensors, or join them. Sums never use `ScatterND`, which loses some of them on several threads. */
import type { Backward } from '../backward.js'
import { axisFromStart, integerOf, type RuleCall, type RuleTable, unsupportedForm } from '../rule.js'

export const SLICING_RULES: RuleTable = [
  ['Slice', slice],
  ['Split', split],
  ['Concat', concat],
  ['Pad', pad],
  ['Gather', gather],
  ['GatherElements', gatherElements],
  ['GatherND', gatherND],
  ['ScatterND', (call) => replaced(call, 'ScatterND', 'GatherND')],
  ['ScatterElements', (call) => replaced(call, 'ScatterElements', 'GatherElements')],
  ['Trilu', trilu],
]

/** The indices that the same `Slice` takes from a range of the axis show where the gradient belongs. */
function slice(call: RuleCall): readonly string[] {
  const { node, inputs, gradient, backward } = call
  const [x, starts, ends, axesInput = '', steps = ''] = inputs as [string, string, string, string?, string?]
  const rank = backward.rankOf(x, node)
  const [firsts, lasts] = [backward.constantIntegers(starts), backward.constantIntegers(ends)]
  const count = firsts?.length ?? lasts?.length ?? backward.lengthOf(starts) ?? backward.lengthOf(ends) ?? 0
  if (count > rank) throw unsupportedForm(call, `has ${count} starts for ${rank} axes`)
  const named = axesInput === '' ? undefined : backward.constantIntegers(axesInput)
  if (axesInput !== '' && named === undefined)
    throw unsupportedForm(call, 'reads its axes from a value that is not constant')
  const axes = named?.map((axis) => axisFromStart(axis, rank)) ?? Array.from({ length: count }, (_, i) => i)
  const strides = steps === '' ? axes.map(() => 1) : backward.constantIntegers(steps)
  if (strides === undefined) throw unsupportedForm(call, 'reads its steps from a value that is not constant')
  const at = (vector: string, i: number) =>
    backward.op('Gather', [vector, backward.integers([i])], { axis: { int: 0 } })
  const indices = axes.map((axis, i) => {
    const range = rangeOf(backward, backward.sizeOf(x, axis))
    const step = backward.integers([strides[i]])
    return backward.op('Slice', [range, at(starts, i), at(ends, i), backward.integers([0]), step])
  })
  // Axes with step 1 are padded at once, the others filled one after the other.
  const padded = axes.flatMap((axis, i) => (strides[i] === 1 ? [{ axis, indices: indices[i] }] : []))
  let result = padded.length === 0 ? gradient : padAround(backward, { gradient, x, rank, padded })
  for (const [i, axis] of axes.entries()) {
    if (strides[i] === 1) continue
    result = scatter(backward, {
      gradient: result,
      indices: indices[i],
      axis,
      rank,
      size: backward.sizeOf(x, axis),
    })
  }
  return [result]
}

interface Padding {
  readonly gradient: string
  readonly x: string
  readonly rank: number
  /** The indices that were taken along each axis, in a row. */
  readonly padded: readonly { readonly axis: number; readonly indices: string }[]
}

function padAround(backward: Backward, { gradient, x, rank, padded }: Padding): string {
  const zero = backward.integers([0])
  const before: string[] = Array.from({ length: rank }, () => zero)
  const after: string[] = Array.from({ length: rank }, () => zero)
  for (const { axis, indices } of padded) {
    // An empty slice has no first index; all of the axis is then padding after it.
    const size = backward.sizeOf(x, axis)
    const first = backward.op('Slice', [
      backward.op('Concat', [indices, zero], { axis: { int: 0 } }),
      zero,
      backward.integers([1]),
    ])
    before[axis] = first
    after[axis] = backward.subtract(backward.subtract(size, first), backward.op('Shape', [indices]))
  }
  return backward.op('Pad', [gradient, backward.op('Concat', [...before, ...after], { axis: { int: 0 } })])
}

/** 0, 1, … below a size that is a vector of one integer. */
function rangeOf(backward: Backward, size: string): string {
  const scalar = backward.op('Reshape', [size, backward.integers([], [0])])
  return backward.op('Range', [backward.integers([0], []), scalar, backward.integers([1], [])])
}

interface Scattering {
  readonly gradient: string
  /** int64 vector: where each slice of the gradient belongs. An index may occur twice. */
  readonly indices: string
  readonly axis: number
  readonly rank: number
  /** The size of the axis in the result, as a vector. */
  readonly size: string
}

/** Zeros, and at the indices along one axis the sums of the gradient's slices. */
function scatter(backward: Backward, { gradient, indices, axis, rank, size }: Scattering): string {
  const shape = backward.op('Shape', [gradient])
  const part = (start: number, end: number) =>
    backward.op('Slice', [shape, backward.integers([start]), backward.integers([end])])
  const parts = [axis > 0 ? [part(0, axis)] : [], size, axis + 1 < rank ? [part(axis + 1, rank)] : []].flat()
  const target = backward.concat(parts)
  const column = Array.from({ length: rank }, (_, i) => (i === axis ? -1 : 1))
  const spread = backward.op('Expand', [backward.op('Reshape', [indices, backward.integers(column)]), shape])
  // Sums of several slices are exact in float32 only; runtimes on the CPU have no sums in float16 at all.
  return backward.inFloat32(gradient, (wide) => {
    const zero = backward.op('CastLike', [backward.integers([0], []), wide])
    const zeros = backward.op('Mul', [backward.op('Expand', [zero, target]), zero])
    return backward.op('ScatterElements', [zeros, spread, wide], {
      axis: { int: axis },
      reduction: { string: 'add' },
    })
  })
}

/** Outputs that the loss does not depend on count as zeros; without them the joined gradient would be too short. */
function split({ node, outputs, gradients, backward }: RuleCall): readonly string[] {
  const axis = integerOf(node, 'axis', 0)
  const parts = gradients.map((gradient, i) => gradient ?? backward.zerosLike(outputs[i]))
  return [parts.length === 1 ? parts[0] : backward.op('Concat', parts, { axis: { int: axis } })]
}

function concat(call: RuleCall): readonly (string | undefined)[] {
  const { node, inputs, needs, gradient, backward } = call
  const axis = axisFromStart(integerOf(node, 'axis', 0), backward.rankOf(call.outputs[0], node))
  if (inputs.length === 1) return [gradient]
  const sizes = inputs.map((input) => backward.sizeOf(input, axis))
  const parts = backward.ops('Split', [gradient, backward.concat(sizes)], inputs.length, {
    axis: { int: axis },
  })
  return parts.map((part, i) => (needs(i) ? part : undefined))
}

function pad(call: RuleCall): readonly string[] {
  const { node, inputs, gradient, backward } = call
  const [x, pads, , axesInput = ''] = inputs as [string, string, string?, string?]
  const mode = node.attribute('mode')?.string ?? 'constant'
  if (mode !== 'constant') throw unsupportedForm(call, `has the mode ${mode}`)
  const rank = backward.rankOf(x, node)
  const named = axesInput === '' ? undefined : backward.constantIntegers(axesInput)
  if (axesInput !== '' && named === undefined)
    throw unsupportedForm(call, 'reads its axes from a value that is not constant')
  const axes = named?.map((axis) => axisFromStart(axis, rank)) ?? Array.from({ length: rank }, (_, i) => i)
  const list = backward.integers(axes)
  const starts = backward.op('Slice', [pads, backward.integers([0]), backward.integers([axes.length])])
  const sizes = backward.op('Gather', [backward.shapeOf(x), list], { axis: { int: 0 } })
  const known = backward.constantIntegers(pads)
  if (known?.some((size) => size < 0)) throw unsupportedForm(call, 'cuts off a part (negative pads)')
  return [backward.op('Slice', [gradient, starts, backward.add(starts, sizes), list])]
}

function gather({ node, inputs, outputs, gradient, backward }: RuleCall): readonly string[] {
  const [x, indices] = inputs as [string, string]
  const rank = backward.rankOf(x, node)
  const axis = axisFromStart(integerOf(node, 'axis', 0), rank)
  const indexDims = backward.dimsOf(indices)
  const size = backward.sizeOf(x, axis)
  // Indices may be negative.
  const flat = backward.op('Cast', [backward.op('Reshape', [indices, backward.integers([-1])])], {
    to: { int: 7 },
  })
  const isNegative = backward.op('Less', [flat, backward.integers([0])])
  const positive = backward.op('Where', [isNegative, backward.add(flat, size), flat])
  const isOne = indexDims?.every((dim) => dim.size.value === 1)
  const shape = backward.shapeOf(x)
  const parts = [
    axis > 0 ? [backward.op('Slice', [shape, backward.integers([0]), backward.integers([axis])])] : [],
    [backward.op('Shape', [flat])],
    axis + 1 < rank
      ? [backward.op('Slice', [shape, backward.integers([axis + 1]), backward.integers([rank])])]
      : [],
  ].flat()
  const inRow = backward.op('Reshape', [gradient, backward.concat(parts)])
  if (isOne) return [padAround(backward, { gradient: inRow, x, rank, padded: [{ axis, indices: positive }] })]
  backward.setType(inRow, backward.typeOf(outputs[0]))
  return [scatter(backward, { gradient: inRow, indices: positive, axis, rank, size })]
}

function gatherElements({ node, inputs, gradient, backward }: RuleCall): readonly string[] {
  const [x, indices] = inputs as [string, string]
  const attributes = { axis: { int: integerOf(node, 'axis', 0) }, reduction: { string: 'add' } }
  return [
    backward.inFloat32(gradient, (wide) =>
      backward.op('ScatterElements', [backward.widened(backward.zerosLike(x)), indices, wide], attributes),
    ),
  ]
}

/** The leading axes that the indices select from are joined into one. */
function gatherND(call: RuleCall): readonly string[] {
  const { node, inputs, gradient, backward } = call
  const [x, indices] = inputs as [string, string]
  const depth = backward.dimsOf(indices)?.at(-1)?.size.value
  if (depth === undefined || integerOf(node, 'batch_dims', 0) !== 0)
    throw unsupportedForm(call, 'has batch_dims, or indices of an unknown length')
  const rank = backward.rankOf(x, node)
  if (depth > rank) throw unsupportedForm(call, `has indices of ${depth} axes for ${rank} axes`)
  const list = backward.op('Reshape', [indices, backward.integers([-1, depth])])
  let linear = ''
  for (let axis = 0; axis < depth; axis++) {
    const size = backward.sizeOf(x, axis)
    const column = backward.op('Gather', [list, backward.integers([axis], [])], { axis: { int: 1 } })
    const isNegative = backward.op('Less', [column, backward.integers([0])])
    const positive = backward.op('Where', [isNegative, backward.add(column, size), column])
    linear = linear === '' ? positive : backward.add(backward.multiply(linear, size), positive)
  }
  const shape = backward.shapeOf(x)
  const sizes = backward.op('Slice', [shape, backward.integers([0]), backward.integers([depth])])
  const total = backward.op('ReduceProd', [sizes], { keepdims: { int: 1 } })
  const rest =
    depth < rank ? [backward.op('Slice', [shape, backward.integers([depth]), backward.integers([rank])])] : []
  const rows = backward.op('Reshape', [gradient, backward.concat([backward.op('Shape', [linear]), ...rest])])
  const summed = scatter(backward, {
    gradient: rows,
    indices: linear,
    axis: 0,
    rank: rank - depth + 1,
    size: total,
  })
  return [backward.reshapeLike(summed, x)]
}

/** Numbers that were replaced have no gradient; the gradient of the new ones is what is in their places. */
function replaced(
  call: RuleCall,
  scatterOperator: string,
  gatherOperator: string,
): readonly (string | undefined)[] {
  const { node, inputs, needs, gradient, backward } = call
  const [, indices, updates] = inputs as [string, string, string]
  const reduction = node.attribute('reduction')?.string ?? 'none'
  if (reduction !== 'none') throw unsupportedForm(call, `has the reduction ${reduction}`)
  const axis = scatterOperator === 'ScatterElements' ? { axis: { int: integerOf(node, 'axis', 0) } } : {}
  return [
    needs(0)
      ? backward.op(scatterOperator, [gradient, indices, backward.zerosLike(updates)], axis)
      : undefined,
    undefined,
    needs(2) ? backward.op(gatherOperator, [gradient, indices], axis) : undefined,
  ]
}

/** The same triangle of the gradient. */
function trilu({ node, inputs, gradient, backward }: RuleCall): readonly string[] {
  return [
    backward.op('Trilu', [gradient, ...inputs.slice(1)], { upper: { int: integerOf(node, 'upper', 1) } }),
  ]
}
