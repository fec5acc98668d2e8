/**
 * What operators make of the dims of their inputs, and of the integers of which graphs compute shapes. An operator that is not here gives
 * values of which nothing is known: so a mistake of this list is never a wrong answer, but one that is missing.
 *
 * @see ONNX's docs/Operators.md and ONNX Runtime's docs/ContribOperators.md
 */

import type { OnnxNode } from '../model/graph.js'
import { DataType } from '../model/schema.js'
import type { OnnxTensor } from '../model/tensor.js'
import { type Dim, type Dims, MOST_DIMS, type Rows, type Sizes } from './dims.js'
import { Size } from './size.js'

/** What is known of a value. */
export interface Known {
  /** Undefined: not even its rank. */
  readonly dims?: Dims | undefined
  /** Where the rank is not known: the first axis is the batch all the same. */
  readonly isBatchFirst?: boolean
  /** Its numbers, where it is a short vector of integers, or one. */
  readonly integers?: readonly Size[] | undefined
}

export const NOTHING: Known = {}

interface Call {
  readonly node: OnnxNode
  readonly inputs: readonly Known[]
  /** The constants among the inputs. */
  readonly constants: readonly (OnnxTensor | undefined)[]
  readonly sizes: Sizes
}

type Infer = (call: Call) => readonly Known[]

/** Vectors of shapes are short. */
export const MOST_INTEGERS = 64
const [ZERO, ONE] = [Size.of(0), Size.of(1)]
/** Exporters write so for "to the end". */
const END = 2 ** 31 - 1

/** @returns for each output what is known of it; where nothing is, it may be missing */
export function inferDims(call: Call): readonly Known[] {
  const { node } = call
  const domain = node.domain === 'com.microsoft' || node.domain === '' ? '' : `${node.domain}:`
  const infer = OPERATORS.get(domain + node.opType)
  return (infer?.(call) ?? []).map((known) => ((known.dims?.length ?? 0) > MOST_DIMS ? NOTHING : known))
}

/** What is known of a constant. */
export function knownOf({ dims, dataType, data }: OnnxTensor, sizes: Sizes): Known {
  if (dims.length > MOST_DIMS) return NOTHING
  const known = { dims: dims.map((size) => sizes.number(size)) }
  const count = dims.reduce((product, size) => product * size, 1)
  const width = dataType === DataType.int64 ? 8 : dataType === DataType.int32 ? 4 : 0
  if (width === 0 || dims.length > 1 || count > MOST_INTEGERS) return known
  const bytes = data()
  if (bytes?.length !== count * width) return known
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const integers = Array.from({ length: count }, (_, i) =>
    Size.of(width === 8 ? Number(view.getBigInt64(8 * i, true)) : view.getInt32(4 * i, true)),
  )
  return { ...known, integers }
}

/** An attribute of whole numbers. Those that say something of shapes are short: of a longer one the rest is left out. */
function integersIn(node: OnnxNode, name: string): readonly number[] | undefined {
  const all = node.attribute(name)?.ints
  return all && all.length > 0 ? Array.from(all.subarray(0, MOST_INTEGERS + 1), Number) : undefined
}

function sizesIn(node: OnnxNode, name: string): readonly Size[] | undefined {
  return integersIn(node, name)?.map((one) => Size.of(one))
}

const OPERATORS: ReadonlyMap<string, Infer> = new Map<string, Infer>([
  // One input's dims.
  ...all(
    `Abs Acos Acosh Asin Asinh Atan Atanh Bernoulli BitwiseNot Ceil Celu Clip Cos Cosh CumSum Elu Erf Exp Floor Gelu HardSigmoid
     HardSwish Hardmax IsInf IsNaN LeakyRelu Log LogSoftmax LpNormalization LRN MeanVarianceNormalization Mish Reciprocal Relu
     Round Selu Shrink Sigmoid Sign Sin Sinh Softmax Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu Trilu
     QuantizeLinear DequantizeLinear Dropout RandomNormalLike RandomUniformLike EyeLike
     LayerNormalization RMSNormalization SimplifiedLayerNormalization GroupNormalization InstanceNormalization BatchNormalization
     GroupNorm SkipLayerNormalization SkipSimplifiedLayerNormalization ScatterElements ScatterND Scatter
     BiasGelu FastGelu QuickGelu BiasSoftmax BiasDropout RotaryEmbedding GemmaRotaryEmbedding GatedRelativePositionBias`,
    first,
  ),
  ['DynamicQuantizeLinear', ({ inputs: [x] }) => [{ dims: x?.dims }, { dims: [] }, { dims: [] }]],
  ['Identity', through],
  ['Cast', cast],
  ['CastLike', first],
  // All inputs, stretched.
  ...all(
    `And BitShift BitwiseAnd BitwiseOr BitwiseXor Greater GreaterOrEqual Less LessOrEqual Mean Or Pow PRelu Sum Xor`,
    stretched,
  ),
  ['Add', arithmetic((sizes, a, b) => sizes.plus(a, b))],
  ['Sub', arithmetic((sizes, a, b) => sizes.minus(a, b))],
  ['Mul', arithmetic((sizes, a, b) => sizes.times(a, b))],
  ['Div', arithmetic((sizes, a, b) => sizes.quotient(a, b))],
  ['Mod', arithmetic(remainder)],
  ['Min', arithmetic((sizes, a, b) => extreme('min', Math.min, sizes, a, b))],
  ['Max', arithmetic((sizes, a, b) => extreme('max', Math.max, sizes, a, b))],
  ['Equal', arithmetic(isEqual)],
  ['Not', ({ inputs: [x], sizes }) => [mapped(x, (one) => sizes.minus(ONE, one))]],
  ['Neg', ({ inputs: [x], sizes }) => [mapped(x, (one) => sizes.minus(ZERO, one))]],
  ['Where', where],
  // Products.
  ['MatMul', matMul(0, 1)],
  ['MatMulInteger', matMul(0, 1)],
  ['MatMulIntegerToFloat', matMul(0, 1)],
  ['DynamicQuantizeMatMul', matMul(0, 1)],
  ['QLinearMatMul', matMul(0, 3)],
  ['FusedMatMul', matMul(0, 1)],
  ['MatMulNBits', matMulNBits],
  ['MatMulBnb4', matMulNBits],
  ['Gemm', gemm],
  ['FusedGemm', gemm],
  ['Einsum', einsum],
  // The same numbers elsewhere.
  ['Shape', shape],
  ['Size', size],
  ['Reshape', reshape],
  ['Flatten', flatten],
  ['Squeeze', squeeze],
  ['Unsqueeze', unsqueeze],
  ['Transpose', transpose],
  ['Expand', expand],
  ['Tile', tile],
  ['Concat', concat],
  ['Split', split],
  ['Slice', slice],
  ['Pad', pad],
  ['Gather', gather],
  ['GatherElements', ({ inputs: [, indices] }) => [{ dims: indices?.dims }]],
  ['GatherND', gatherND],
  ['GatherBlockQuantized', gatherQuantized],
  // What is made of nothing.
  ['ConstantOfShape', constantOfShape],
  ['Range', range],
  ['OneHot', oneHot],
  // Over axes.
  ...all(
    `ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare`,
    reduce,
  ),
  ['ArgMax', argument],
  ['ArgMin', argument],
  ['TopK', topK],
  // Images and sounds.
  ['Conv', conv(1)],
  ['FusedConv', conv(1)],
  ['ConvInteger', conv(1)],
  ['QLinearConv', conv(3)],
  ['ConvTranspose', convTranspose],
  ['MaxPool', pool],
  ['AveragePool', pool],
  ['LpPool', pool],
  ...all(`GlobalAveragePool GlobalMaxPool GlobalLpPool`, globalPool),
  ['Resize', resize],
  ['Upsample', resize],
  ['DepthToSpace', keepFirst],
  ['SpaceToDepth', keepFirst],
  // Whole layers.
  ['Attention', attention],
  ['MultiHeadAttention', multiHeadAttention],
  ['DecoderMaskedMultiHeadAttention', multiHeadAttention],
  ['GroupQueryAttention', multiHeadAttention],
  ['EmbedLayerNormalization', embedding],
  ['LSTM', recurrent],
  ['GRU', recurrent],
  ['RNN', recurrent],
])

function all(names: string, infer: Infer): [string, Infer][] {
  return names
    .trim()
    .split(/\s+/)
    .map((name) => [name, infer])
}

function first({ node, inputs: [x = NOTHING] }: Call): readonly Known[] {
  const known = x.isBatchFirst ? { isBatchFirst: true } : { dims: x.dims }
  // The residual sum of a skip connection comes last.
  if (node.opType.startsWith('Skip')) return [known, NOTHING, NOTHING, known]
  return node.opType === 'Dropout' ? [known, known] : [known]
}

function through({ inputs }: Call): readonly Known[] {
  return [inputs[0] ?? NOTHING]
}

function cast({ node, inputs: [x = NOTHING] }: Call): readonly Known[] {
  const to = Number(node.attribute('to')?.int)
  const isInteger = [DataType.int64, DataType.int32, DataType.bool].some((type) => type === to)
  return [isInteger ? x : { dims: x.dims }]
}

function stretched({ inputs, sizes }: Call): readonly Known[] {
  const isSmall = ({ dims, isBatchFirst }: Known) => isBatchFirst || (dims !== undefined && dims.length < 2)
  if (inputs.some((input) => input.isBatchFirst) && inputs.every(isSmall)) return [{ isBatchFirst: true }]
  return [{ dims: sizes.broadcast(inputs.map(({ dims }) => dims)) }]
}

function arithmetic(compute: (sizes: Sizes, a: Size, b: Size) => Size): Infer {
  return (call) => {
    const [known = NOTHING] = stretched(call)
    return [{ ...known, integers: pairwise(call, compute) }]
  }
}

function pairwise(
  { inputs: [a, b, ...others], sizes }: Call,
  compute: (sizes: Sizes, a: Size, b: Size) => Size,
): readonly Size[] | undefined {
  if (others.length > 0) return undefined
  const [own, other] = [a?.integers, b?.integers]
  if (!own || !other || (own.length !== other.length && own.length !== 1 && other.length !== 1))
    return undefined
  const length = own.length === 1 ? other.length : own.length
  const at = (list: readonly Size[], i: number) => list[list.length === 1 ? 0 : i]
  return Array.from({ length }, (_, i) => compute(sizes, at(own, i), at(other, i)))
}

/** 1 for true. */
function isEqual(sizes: Sizes, a: Size, b: Size): Size {
  if (a.equals(b)) return ONE
  const isDifferent = a.value !== undefined && b.value !== undefined
  const isNegative = (one: Size, other: Size) => (one.value ?? 0) < 0 && other.isNatural
  return isDifferent || isNegative(a, b) || isNegative(b, a) ? ZERO : sizes.open()
}

function remainder(sizes: Sizes, a: Size, b: Size): Size {
  const [own, by] = [a.value, b.value]
  if (own !== undefined && by !== undefined && own >= 0 && by > 0) return Size.of(own % by)
  return a.dividedBy(b) ? ZERO : sizes.computed('%', a, b)
}

function extreme(
  name: string,
  compute: (a: number, b: number) => number,
  sizes: Sizes,
  a: Size,
  b: Size,
): Size {
  if (a.equals(b)) return a
  return a.value !== undefined && b.value !== undefined
    ? Size.of(compute(a.value, b.value))
    : sizes.computed(name, a, b)
}

function mapped(x: Known | undefined, compute: (one: Size) => Size): Known {
  return { dims: x?.dims, integers: x?.integers?.map(compute) }
}

function where({ inputs, sizes }: Call): readonly Known[] {
  const [condition, a, b] = inputs.map(({ integers }) => integers)
  const dims = sizes.broadcast(inputs.map((input) => input.dims))
  if (!condition || !a || !b) return [{ dims }]
  const length = Math.max(condition.length, a.length, b.length)
  const integers = Array.from({ length }, (_, i) => {
    const [is, yes, no] = [condition, a, b].map((list) => list[list.length === 1 ? 0 : i])
    if (!is || !yes || !no) return sizes.open()
    if (yes.equals(no)) return yes
    return is.value === undefined ? sizes.open() : is.value === 0 ? no : yes
  })
  return [{ dims, integers }]
}

function matMul(x: number, w: number): Infer {
  return ({ node, inputs, sizes }) => {
    const [transA, transB] = ['transA', 'transB'].map((name) => Boolean(node.attribute(name)?.int))
    if (node.attribute('transBatchA')?.int || node.attribute('transBatchB')?.int) return []
    if (inputs[x]?.isBatchFirst && !transA && inputs[w]?.dims?.length === 2) return [{ isBatchFirst: true }]
    const a = turned(inputs[x]?.dims, transA)
    const b = turned(inputs[w]?.dims, transB)
    if (!a || !b || a.length === 0 || b.length === 0) return []
    const batch = sizes.broadcast([a.slice(0, -2), b.slice(0, -2)])
    if (!batch) return []
    const row = a.length > 1 ? a.slice(-2, -1) : []
    const column = b.length > 1 ? b.slice(-1) : []
    return [{ dims: [...batch, ...row, ...column] }]
  }
}

function turned(dims: Dims | undefined, isTurned = false): Dims | undefined {
  if (!dims || !isTurned || dims.length < 2) return dims
  const [row, column] = dims.slice(-2) as [Dim, Dim]
  return [...dims.slice(0, -2), column, row]
}

function matMulNBits({ node, inputs: [x], sizes }: Call): readonly Known[] {
  // `MatMulBnb4` has its weight the other way round where it says so.
  const features = Number(node.attribute(node.attribute('transB')?.int === 0n ? 'K' : 'N')?.int ?? 0)
  return x?.dims ? [{ dims: [...x.dims.slice(0, -1), sizes.number(features)] }] : []
}

function gemm({ node, inputs: [x, w] }: Call): readonly Known[] {
  const a = turned(x?.dims, Boolean(node.attribute('transA')?.int))
  const b = turned(w?.dims, Boolean(node.attribute('transB')?.int))
  return a?.length === 2 && b?.length === 2 ? [{ dims: [a[0], b[1]] }] : []
}

function einsum({ node, inputs, sizes }: Call): readonly Known[] {
  const [left = '', right] = (node.attribute('equation')?.string ?? '').replaceAll(/\s/g, '').split('->')
  const axes = new Map<string, Dim>()
  for (const [i, letters] of left.split(',').entries()) {
    const dims = inputs[i]?.dims
    if (!dims || letters.length !== dims.length || letters.includes('.')) return []
    for (const [j, letter] of [...letters].entries()) {
      const known = axes.get(letter)
      const dim = dims[j]
      axes.set(letter, known ? sizes.stretched(known, dim) : dim)
    }
  }
  if (right === undefined) return []
  const dims = [...right].map((letter) => axes.get(letter))
  return dims.every((dim) => dim !== undefined) ? [{ dims }] : []
}

function shape({ node, inputs: [x], sizes }: Call): readonly Known[] {
  if (!x?.dims) return [{ dims: [sizes.dim(undefined)] }]
  const start = Number(node.attribute('start')?.int ?? 0)
  const end = node.attribute('end')?.int
  const integers = x.dims
    .slice(start, end === undefined ? undefined : Number(end))
    .map(({ size: one }) => one)
  return [vector(integers, sizes)]
}

function vector(integers: readonly Size[], sizes: Sizes): Known {
  return { dims: [sizes.number(integers.length)], integers }
}

function size({ inputs: [x], sizes }: Call): readonly Known[] {
  const count = x?.dims && sizes.product(x.dims.map(({ size: one }) => one))
  return [{ dims: [], ...(count && { integers: [count] }) }]
}

function reshape({ node, inputs: [x, target], sizes }: Call): readonly Known[] {
  const given = target?.integers ?? opened(target, sizes)
  if (!given) return []
  if (!x?.dims) return [{ dims: given.map((one) => sizes.dim(isPositive(one) ? one : undefined)) }]
  const old = x.dims
  const keepsZero = Boolean(node.attribute('allowzero')?.int)
  const made = given.map((one, i) => (one.value === 0 && !keepsZero ? (old[i]?.size ?? one) : one))
  const rest = made.findIndex(({ value }) => value === -1)
  if (rest >= 0) {
    const others = made.filter((_, i) => i !== rest)
    made[rest] = restOf(
      sizes,
      old.map(({ size: one }) => one),
      others,
    )
  }
  const dims = sizes.reshaped(old, made)
  return [{ dims, ...(dims.length < 2 && { integers: x.integers }) }]
}

/** Numbers that are not known, of a vector whose length is. */
function opened(x: Known | undefined, sizes: Sizes): readonly Size[] | undefined {
  const length = x?.dims?.length === 1 ? x.dims[0]?.size.value : undefined
  return length !== undefined && length <= MOST_INTEGERS
    ? Array.from({ length }, () => sizes.open())
    : undefined
}

function isPositive(one: Size): boolean {
  return one.value === undefined ? one.isNatural : one.value > 0
}

/** What is left of a product: equal factors are taken out first, for they may not be known. */
function restOf(sizes: Sizes, all: readonly Size[], others: readonly Size[]): Size {
  const left = [...all]
  const open = others.filter((one) => {
    const at = left.findIndex((other) => other.equals(one))
    if (at >= 0) left.splice(at, 1)
    return at < 0
  })
  return sizes.quotient(sizes.product(left), sizes.product(open))
}

function flatten({ node, inputs: [x], sizes }: Call): readonly Known[] {
  if (!x?.dims) return []
  const axis = onAxis(Number(node.attribute('axis')?.int ?? 1), x.dims.length)
  const all = x.dims.map(({ size: one }) => one)
  return [
    { dims: sizes.reshaped(x.dims, [sizes.product(all.slice(0, axis)), sizes.product(all.slice(axis))]) },
  ]
}

function onAxis(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis
}

/** Of an attribute, or, from opset 13 on, an input. */
function axesOf({ node, inputs }: Call, input: number): readonly number[] | undefined {
  const given = integersIn(node, 'axes')
  if (given) return given
  const numbers = inputs[input]?.integers?.map(({ value }) => value)
  return numbers?.every((value) => value !== undefined) ? numbers : undefined
}

function squeeze(call: Call): readonly Known[] {
  const [x] = call.inputs
  if (!x?.dims) return []
  const { dims } = x
  const axes = axesOf(call, 1)?.map((axis) => onAxis(axis, dims.length))
  if (!axes && call.inputs[1]?.dims) return []
  const kept = dims.filter(({ size: one }, i) => (axes ? !axes.includes(i) : one.value !== 1))
  return [{ dims: kept, integers: x.integers }]
}

function unsqueeze(call: Call): readonly Known[] {
  const [x] = call.inputs
  const axes = axesOf(call, 1)
  if (!x?.dims || !axes) return []
  const rank = x.dims.length + axes.length
  if (rank > MOST_DIMS) return []
  const own = [...x.dims]
  const places = axes.map((axis) => onAxis(axis, rank))
  const dims = Array.from({ length: rank }, (_, i) =>
    places.includes(i) ? call.sizes.number(1) : (own.shift() ?? call.sizes.dim(undefined)),
  )
  return [{ dims, ...(rank < 2 && { integers: x.integers }) }]
}

function transpose({ node, inputs: [x], sizes }: Call): readonly Known[] {
  if (!x?.dims) return []
  const { dims } = x
  const given = integersIn(node, 'perm')
  if (!given) return [{ dims: dims.toReversed() }]
  return [{ dims: given.map((axis) => dims[axis] ?? sizes.dim(undefined)) }]
}

function expand({ inputs: [x, target], sizes }: Call): readonly Known[] {
  const given = target?.integers ?? opened(target, sizes)
  if (!x?.dims || !given) return []
  return [{ dims: sizes.broadcast([x.dims, given.map((one) => sizes.dim(one, true))]) }]
}

function tile({ inputs: [x, repeats], sizes }: Call): readonly Known[] {
  const given = repeats?.integers
  if (!x?.dims || !given || given.length !== x.dims.length) return []
  return [
    {
      dims: x.dims.map((dim, i) => {
        const times = given[i]
        if (times.value === 1) return dim
        const made = sizes.times(dim.size, times)
        if (dim.size.value === 1) return sizes.dim(made, true)
        if (dim.rows)
          return { size: made, rows: { ...dim.rows, before: sizes.times(dim.rows.before, times) } }
        const { rows } = sizes.dim(times)
        return rows && !sizes.mayHoldBatch(dim.size) ? { size: made, rows } : { size: made }
      }),
    },
  ]
}

function concat({ node, inputs, sizes }: Call): readonly Known[] {
  const all = inputs.map(({ dims }) => dims)
  const ranks = all.map((dims) => dims?.length).filter((rank) => rank !== undefined)
  const [rank] = ranks
  if (rank === undefined) return []
  const axis = onAxis(Number(node.attribute('axis')?.int ?? 0), rank)
  const known = all.filter((dims) => dims !== undefined)
  const isWhole = known.length === all.length && known.every((dims) => dims.length === rank)
  if (!isWhole) return []
  const dims = Array.from({ length: rank }, (_, i) => {
    const along = known.map((one) => one[i])
    return i === axis ? joinedDims(along, sizes) : along.reduce((a, b) => alike(a, b, sizes))
  })
  // One number of a shape that is not known does not hide the others.
  const isVector = rank === 1 && inputs.some((input) => input.integers)
  const lists = isVector ? inputs.map((input) => input.integers ?? opened(input, sizes)) : []
  const integers = lists.filter((list) => list !== undefined)
  const isKnown = isVector && integers.length === inputs.length && integers.flat().length <= MOST_INTEGERS
  return [{ dims, ...(isKnown && { integers: integers.flat() }) }]
}

/** Two axes of one size. */
function alike(a: Dim, b: Dim, sizes: Sizes): Dim {
  return a.size.value === 1 && b.size.value !== 1 ? b : sizes.stretched(a, b)
}

/** One axis after the other: those that are the rows of one batch are that many times all rows. */
function joinedDims(along: readonly Dim[], sizes: Sizes): Dim {
  const [own, ...others] = along as readonly [Dim, ...Dim[]]
  if (others.length === 0) return own
  const made = along.map(({ size: one }) => one).reduce((a, b) => sizes.plus(a, b))
  const isAllRows = along.every(
    ({ size: one, rows }) =>
      rows && one.equals(own.size) && rows.batch === own.rows?.batch && rows.before.value === 1,
  )
  if (isAllRows && own.rows) return { size: made, rows: { ...own.rows, before: Size.of(along.length) } }
  return along.some(({ rows }) => rows) ? { size: sizes.open() } : { size: made }
}

function split({ node, inputs: [x, parts], sizes }: Call): readonly Known[] {
  const count = node.outputs.length
  if (!x?.dims) return []
  const { dims } = x
  const axis = onAxis(Number(node.attribute('axis')?.int ?? 0), dims.length)
  const own = dims[axis]
  if (!own) return []
  const isEven = !node.inputs[1] && !integersIn(node, 'split')
  const given = sizesIn(node, 'split') ?? parts?.integers
  return Array.from({ length: count }, (_, i) => {
    const made = isEven ? own.size.dividedBy(Size.of(count)) : given?.[i]
    return { dims: dims.with(axis, own.rows ? { size: sizes.open() } : sizes.dim(made)) }
  })
}

function slice(call: Call): readonly Known[] {
  const { node, sizes } = call
  const [x, startsIn, endsIn, axesIn, stepsIn] = call.inputs
  if (!x?.dims) return []
  const list = (name: string, input: Known | undefined) => sizesIn(node, name) ?? input?.integers
  const [starts, ends] = [list('starts', startsIn), list('ends', endsIn)]
  const length = starts?.length ?? ends?.length ?? startsIn?.dims?.[0]?.size.value
  if (length === undefined) return []
  const axes =
    list('axes', axesIn) ?? (axesIn?.dims ? undefined : Array.from({ length }, (_, i) => Size.of(i)))
  if (!axes?.every(({ value }) => value !== undefined))
    return [{ dims: x.dims.map(() => sizes.dim(undefined)) }]
  const steps = stepsIn?.dims ? stepsIn.integers : axes.map(() => ONE)
  let { dims } = x
  for (const [i, { value: axis = 0 }] of axes.entries()) {
    const at = onAxis(axis, dims.length)
    const own = dims[at]
    if (own) dims = dims.with(at, sliced(own, starts?.[i], ends?.[i], steps?.[i], sizes))
  }
  const numbers =
    x.dims.length === 1 && x.integers && slicedNumbers(x.integers, starts?.[0], ends?.[0], steps?.[0])
  return [{ dims, ...(numbers && { integers: numbers }) }]
}

function sliced(
  own: Dim,
  start: Size | undefined,
  end: Size | undefined,
  step: Size | undefined,
  sizes: Sizes,
): Dim {
  const openDim = {
    size: sizes.mayHoldBatch(own.size) || own.rows ? sizes.open() : sizes.computed('slice', own.size),
  }
  if (start === undefined || end === undefined || step?.value === undefined) return openDim
  const isToEnd = end.equals(own.size) || (end.value ?? 0) >= END
  if (start.value === 0 && isToEnd && step.value === 1) return own
  // Other rows, or the same ones in another order.
  if (own.rows) return openDim
  const whole = own.size.value
  const clipped = (place: Size): Size => {
    const { value } = place
    if (value === undefined) return place
    if (whole !== undefined) return Size.of(Math.min(Math.max(value < 0 ? value + whole : value, 0), whole))
    return value < 0 ? sizes.plus(own.size, place) : place
  }
  if (step.value < 0) {
    const isAll = start.value === -1 && (end.value ?? 0) <= -END
    return isAll && step.value === -1 ? own : openDim
  }
  const length = sizes.minus(isToEnd ? own.size : clipped(end), clipped(start))
  if (step.value === 1) return sizes.dim(length)
  const number = length.value
  return number === undefined
    ? { size: sizes.computed('step', length, step) }
    : sizes.number(Math.ceil(number / step.value))
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

function pad(call: Call): readonly Known[] {
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
        const at = axes.indexOf(i)
        const [before, after] = [pads[at], pads[at + axes.length]]
        if (at < 0 || (before?.value === 0 && after?.value === 0)) return dim
        if (!before || !after || dim.rows) return { size: sizes.open() }
        return sizes.dim(sizes.plus(dim.size, sizes.plus(before, after)))
      }),
    },
  ]
}

function gather({ node, inputs: [x, indices] }: Call): readonly Known[] {
  if (!x?.dims || !indices?.dims) return []
  const axis = onAxis(Number(node.attribute('axis')?.int ?? 0), x.dims.length)
  const dims = [...x.dims.slice(0, axis), ...indices.dims, ...x.dims.slice(axis + 1)]
  const own = x.dims.length === 1 ? x.integers : undefined
  const picked = own && indices.integers?.map(({ value }) => own.at(value ?? own.length))
  const isWhole = picked?.every((one) => one !== undefined)
  return [{ dims, ...(isWhole && { integers: picked }) }]
}

function gatherND({ node, inputs: [x, indices] }: Call): readonly Known[] {
  const last = indices?.dims?.at(-1)?.size.value
  if (!x?.dims || !indices?.dims || last === undefined) return []
  const batch = Number(node.attribute('batch_dims')?.int ?? 0)
  return [{ dims: [...indices.dims.slice(0, -1), ...x.dims.slice(batch + last)] }]
}

/** The features are packed, so that their number is not that of the dims. */
function gatherQuantized({ inputs: [x, indices], sizes }: Call): readonly Known[] {
  if (x?.dims?.length !== 2 || !indices?.dims) return []
  return [{ dims: [...indices.dims, { size: sizes.computed('features', ...x.dims.map((dim) => dim.size)) }] }]
}

function constantOfShape({ node, inputs: [target], sizes }: Call): readonly Known[] {
  const given = target?.integers ?? opened(target, sizes)
  if (!given) return []
  const dims = given.map((one) => sizes.dim(one, true))
  const [length] = given
  const tensor = node.attribute('value')?.tensor
  const value = tensor && knownOf(tensor, sizes).integers?.[0]
  const count = given.length === 1 ? length?.value : undefined
  const isShort = value && count !== undefined && count >= 0 && count <= MOST_INTEGERS
  return [{ dims, ...(isShort && { integers: Array.from({ length: count }, () => value) }) }]
}

function range({ inputs, sizes }: Call): readonly Known[] {
  const [start, limit, delta] = inputs.map(({ integers }) => integers?.[0])
  if (!start || !limit || !delta) return [{ dims: [{ size: sizes.open() }] }]
  const length = sizes.minus(limit, start)
  return [{ dims: [sizes.dim(delta.value === 1 ? length : sizes.quotient(length, delta))] }]
}

function oneHot({ node, inputs: [indices, depth], sizes }: Call): readonly Known[] {
  if (!indices?.dims) return []
  const axis = onAxis(Number(node.attribute('axis')?.int ?? -1), indices.dims.length + 1)
  return [{ dims: indices.dims.toSpliced(axis, 0, sizes.dim(depth?.integers?.[0])) }]
}

function reduce(call: Call): readonly Known[] {
  const { node, inputs, sizes } = call
  const [x] = inputs
  if (!x?.dims) return []
  const { dims } = x
  const given = axesOf(call, 1)?.map((axis) => onAxis(axis, dims.length))
  const keeps = node.attribute('keepdims')?.int !== 0n
  if (!given && inputs[1]?.dims) return keeps ? [{ dims: dims.map(() => sizes.dim(undefined)) }] : []
  if (!given?.length && node.attribute('noop_with_empty_axes')?.int) return [x]
  const isGone = (i: number) => !given?.length || given.includes(i)
  const made = keeps
    ? dims.map((dim, i) => (isGone(i) ? sizes.number(1) : dim))
    : dims.filter((_, i) => !isGone(i))
  const isProduct = node.opType === 'ReduceProd' && x.integers && made.length < 2
  return [{ dims: made, ...(isProduct && { integers: [sizes.product(x.integers ?? [])] }) }]
}

function argument({ node, inputs: [x], sizes }: Call): readonly Known[] {
  if (!x?.dims) return []
  const axis = onAxis(Number(node.attribute('axis')?.int ?? 0), x.dims.length)
  const keeps = node.attribute('keepdims')?.int !== 0n
  return [{ dims: keeps ? x.dims.with(axis, sizes.number(1)) : x.dims.toSpliced(axis, 1) }]
}

function topK({ node, inputs: [x, k], sizes }: Call): readonly Known[] {
  if (!x?.dims) return []
  const axis = onAxis(Number(node.attribute('axis')?.int ?? -1), x.dims.length)
  if (!x.dims[axis]) return []
  const known = {
    dims: x.dims.with(axis, x.dims[axis]?.rows ? { size: sizes.open() } : sizes.dim(k?.integers?.[0])),
  }
  return [known, known]
}

/** @param weight which input it is */
function conv(weight: number): Infer {
  return ({ node, inputs, sizes }) => {
    const [x, w] = [inputs[0]?.dims, inputs[weight]?.dims]
    const [batch] = x ?? []
    if (!x || !w?.[0] || !batch) return []
    const kernel = w.slice(2).map((dim) => dim.size)
    return [{ dims: [batch, w[0], ...windows(node, x.slice(2), kernel, sizes)] }]
  }
}

function pool({ node, inputs: [x], sizes }: Call): readonly Known[] {
  const kernel = sizesIn(node, 'kernel_shape') ?? []
  if (!x?.dims) return []
  const known = { dims: [...x.dims.slice(0, 2), ...windows(node, x.dims.slice(2), kernel, sizes)] }
  return [known, known]
}

/** How often a kernel fits along each axis. */
function windows(node: OnnxNode, along: Dims, kernel: readonly Size[], sizes: Sizes): Dim[] {
  const list = (name: string) => integersIn(node, name) ?? []
  const [pads, strides, dilations] = [list('pads'), list('strides'), list('dilations')]
  const isAutomatic = !['', 'NOTSET'].includes(node.attribute('auto_pad')?.string ?? '')
  const roundsUp = Boolean(node.attribute('ceil_mode')?.int)
  return along.map(({ size: own }, i) => {
    const width = kernel[i]?.value
    const stride = strides[i] ?? 1
    const padding = (pads[i] ?? 0) + (pads[i + along.length] ?? 0)
    if (width === undefined || isAutomatic || roundsUp)
      return { size: sizes.computed(`windows of ${stride} ${isAutomatic} ${roundsUp}`, own) }
    const room = sizes.plus(own, Size.of(padding - (dilations[i] ?? 1) * (width - 1) - 1))
    return { size: sizes.plus(stride === 1 ? room : floored(room, stride, sizes), ONE) }
  })
}

function floored(a: Size, by: number, sizes: Sizes): Size {
  return a.value === undefined ? sizes.quotient(a, Size.of(by)) : Size.of(Math.floor(a.value / by))
}

function convTranspose({ node, inputs: [x, w], sizes }: Call): readonly Known[] {
  const [batch, , ...along] = x?.dims ?? []
  const channels = w?.dims?.[1]?.size
  if (!batch || !channels) return []
  const groups = Size.of(Number(node.attribute('group')?.int ?? 1))
  const spread = along.map(({ size: own }) => ({ size: sizes.computed(`spread ${node.outputs[0]}`, own) }))
  return [{ dims: [batch, sizes.dim(sizes.times(channels, groups)), ...spread] }]
}

function globalPool({ inputs: [x], sizes }: Call): readonly Known[] {
  return x?.dims ? [{ dims: x.dims.map((dim, i) => (i < 2 ? dim : sizes.number(1))) }] : []
}

function resize({ node, inputs, constants, sizes }: Call): readonly Known[] {
  const [x] = inputs
  if (!x?.dims) return []
  const axes = node.attribute('axes')?.ints
  if (axes && axes.length > 0) return []
  const target = inputs[3]?.integers
  const scales = floatsOf(constants[inputs.length === 2 ? 1 : 2])
  return [
    {
      dims: x.dims.map((dim, i) => {
        const one = target?.[i]
        if (one) return one.equals(dim.size) ? dim : dim.rows ? { size: sizes.open() } : sizes.dim(one)
        if (scales?.[i] === 1) return dim
        return dim.rows
          ? { size: sizes.open() }
          : { size: sizes.computed(`resized ${scales?.[i]}`, dim.size) }
      }),
    },
  ]
}

function floatsOf(tensor: OnnxTensor | undefined): readonly number[] | undefined {
  const bytes = tensor?.dataType === DataType.float ? tensor.data() : undefined
  return bytes && bytes.length <= 4 * MOST_INTEGERS ? [...new Float32Array(bytes.slice().buffer)] : undefined
}

function keepFirst({ node, inputs: [x], sizes }: Call): readonly Known[] {
  const [batch, ...others] = x?.dims ?? []
  if (!batch) return []
  const name = `${node.opType} ${node.attribute('blocksize')?.int}`
  return [
    { dims: [batch, ...others.map(({ size: own }, i) => ({ size: sizes.computed(`${name} ${i}`, own) }))] },
  ]
}

/** `com.microsoft`: the input and the packed weight; ONNX's own: query, key, value. */
function attention(call: Call): readonly Known[] {
  const { node, inputs, sizes } = call
  const [x, w, v] = inputs
  if (!x?.dims) return []
  if (node.domain === '') {
    // Of three dims the heads lie side by side, of four the third is the sequence.
    const width = node.attribute('kv_num_heads')?.int
    const [own, other] = [x.dims.at(-1), v?.dims?.at(-1)]
    if (!own || !other) return []
    const isSame = own.size.equals(other.size) || width === undefined
    return [{ dims: [...x.dims.slice(0, -1), isSame ? other : { size: sizes.computed('heads', own.size) }] }]
  }
  const packed = w?.dims?.at(-1)?.size
  const given = node.attribute('qkv_hidden_sizes')?.ints ?? []
  const width = given.length === 3 ? Size.of(Number(given[2])) : packed?.dividedBy(Size.of(3))
  return [{ dims: [...x.dims.slice(0, 2), width ? { size: width } : { size: sizes.computed('heads') }] }]
}

/** `[batch, tokens, heads · size]`, whatever the form of the query. */
function multiHeadAttention({ node, inputs, sizes }: Call): readonly Known[] {
  const [query, , value] = inputs
  if (!query?.dims || query.dims.length < 3) return []
  const width =
    value?.dims?.length === 3 ? value.dims.at(-1) : { size: sizes.computed(`heads ${node.outputs[0]}`) }
  const isGrouped = node.opType === 'GroupQueryAttention'
  const features = isGrouped && value?.dims ? query.dims[2] : width
  return features ? [{ dims: [...query.dims.slice(0, 2), features] }] : []
}

function embedding({ inputs: [ids, , words] }: Call): readonly Known[] {
  const width = words?.dims?.at(-1)
  const batch = ids?.dims?.[0]
  if (!ids?.dims || !width || !batch) return []
  const sum = { dims: [...ids.dims, width] }
  return [sum, { dims: [batch] }, sum]
}

function recurrent({ node, inputs: [x, , r], sizes }: Call): readonly Known[] {
  const hidden = r?.dims?.at(-1)
  const [tokens, batch] = x?.dims ?? []
  if (!hidden || !tokens || !batch || node.attribute('layout')?.int) return []
  const directions = sizes.number(node.attribute('direction')?.string === 'bidirectional' ? 2 : 1)
  const last = { dims: [directions, batch, hidden] }
  return [{ dims: [tokens, directions, batch, hidden] }, last, last]
}

/** Of the two branches of an `If`. */
export function merged(a: Known, b: Known, sizes: Sizes): Known {
  const [own, other] = [a.dims, b.dims]
  if (!own || !other || own.length !== other.length) return NOTHING
  const isSame = (x: Rows | undefined, y: Rows | undefined) =>
    x?.batch === y?.batch && x?.before.key === y?.before.key
  return {
    dims: own.map((dim, i) => {
      const one = other[i]
      if (dim.size.equals(one.size) && isSame(dim.rows, one.rows)) return dim
      if (dim.rows || one.rows || sizes.mayHoldBatch(dim.size) || sizes.mayHoldBatch(one.size))
        return { size: sizes.open() }
      return { size: sizes.computed('either', dim.size, one.size) }
    }),
  }
}
