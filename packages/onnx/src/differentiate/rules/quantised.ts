/**
 * Quantised operators. A quantised weight is a constant: its gradient rule multiplies by the dequantised weight, which is made anew in each
 * step and not kept. The rounding of activations is passed straight through, as if q = x/s + z held exactly, but saturation is not: activations
 * outside the range of the integers have no gradient. The gradient of an integer value has the type float32.
 *
 * @see Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons" (straight-through estimator)
 */
import { DataType } from '../../model/schema.js'
import type { Backward } from '../backward.js'
import { axisFromStart, integerOf, type RuleCall, type RuleTable, unsupportedForm } from '../rule.js'
import { flatProduct } from './matrix-products.js'

export const QUANTISED_RULES: RuleTable = [
  ['DynamicQuantizeLinear', dynamicQuantize],
  ['QuantizeLinear', quantize],
  ['DequantizeLinear', dequantize],
  ['MatMulInteger', matMulInteger],
  ['com.microsoft:MatMulNBits', matMulNBits],
]

/** The outputs are the quantised values, their scale and their zero point; the latter two count as constants. */
function dynamicQuantize({
  outputs: [, scale],
  gradients: [gradient],
  backward,
}: RuleCall): readonly string[] {
  return gradient === undefined ? [] : [backward.divide(gradient, scale)]
}

/** The least and the greatest integer of each type. */
const INTEGER_RANGES: ReadonlyMap<number, readonly [number, number]> = new Map([
  [DataType.uint8, [0, 255]],
  [DataType.int8, [-128, 127]],
  [DataType.uint16, [0, 65_535]],
  [DataType.int16, [-32_768, 32_767]],
])

/** q = round(x/s) + z, saturated. Static scales come from other activations than those with adapters, so saturation is common. */
function quantize(call: RuleCall): readonly string[] {
  const { node, inputs, gradient, backward } = call
  const [x, , zeroPoint = ''] = inputs
  const scale = alongAxis(call, inputs[1])
  const passed = backward.divide(gradient, scale)
  const type =
    zeroPoint === '' ? integerOf(node, 'output_dtype', 0) || DataType.uint8 : backward.typeOf(zeroPoint)
  const range = INTEGER_RANGES.get(type)
  if (range === undefined) return [passed]
  const [least, greatest] = range
  const limit = (integer: number) => {
    const number = backward.number(integer, x)
    if (zeroPoint === '') return backward.multiply(number, scale)
    const zero = backward.op('Cast', [alongAxis(call, zeroPoint)], { to: { int: backward.typeOf(x) } })
    return backward.multiply(backward.subtract(number, zero), scale)
  }
  const isInRange = backward.op('And', [
    backward.op('GreaterOrEqual', [x, limit(least - 0.5)]),
    backward.op('LessOrEqual', [x, limit(greatest + 0.5)]),
  ])
  return [backward.where(isInRange, passed, x)]
}

function dequantize(call: RuleCall): readonly string[] {
  const { inputs, gradient, backward } = call
  return [backward.multiply(gradient, alongAxis(call, inputs[1]))]
}

/** A scale for each index of one axis, in a shape that broadcasts. */
function alongAxis(call: RuleCall, scale: string): string {
  const { node, inputs, backward } = call
  const dims = backward.dimsOf(scale)
  if (dims?.length === 0 || (dims?.length === 1 && dims[0].size.value === 1)) return scale
  if (dims?.length !== 1 || integerOf(node, 'block_size', 0) !== 0)
    throw unsupportedForm(call, 'has blocks of scales')
  const rank = backward.rankOf(inputs[0], node)
  const axis = axisFromStart(integerOf(node, 'axis', 1), rank)
  const shape = Array.from({ length: rank }, (_, i) => (i === axis ? -1 : 1))
  return backward.op('Reshape', [scale, backward.integers(shape)])
}

/** Y = (A − a)·(B − b) in integers. */
function matMulInteger(call: RuleCall): readonly string[] {
  const { node, inputs, needs, gradient, backward } = call
  const [a, b, , zeroPoint = ''] = inputs as [string, string, string?, string?]
  if (needs(1) || backward.rankOf(b, node) !== 2)
    throw unsupportedForm(call, 'multiplies by something that is not a frozen matrix')
  const one = backward.op('Cast', [backward.runtimeOne()], { to: { int: DataType.float } })
  const isPerColumn =
    zeroPoint !== '' && backward.dimsOf(zeroPoint)?.length === 1 && backward.fixedDims(zeroPoint)?.[0] !== 1
  const scalar = (value: string) => backward.op('Reshape', [value, backward.integers([], [0])])
  const scale = isPerColumn ? backward.op('Expand', [one, backward.shapeOf(zeroPoint)]) : scalar(one)
  const zero = zeroPoint === '' ? [] : [isPerColumn ? zeroPoint : scalar(zeroPoint)]
  const weight = backward.op('DequantizeLinear', [b, scale, ...zero], { axis: { int: 1 } })
  return [flatProduct(backward, { gradient, weight, x: a, isTransposed: false })]
}

/** Y = X·Wᵀ with W `[N, K]` in blocks of K. */
function matMulNBits(call: RuleCall): readonly (string | undefined)[] {
  const { node, inputs, outputs, needs, gradient, backward } = call
  const [x, packed, scales, zeroPoints = '', order = '', bias = ''] = inputs as [
    string,
    string,
    string,
    string?,
    string?,
    string?,
  ]
  const [bits, blockSize, k, n] = [
    integerOf(node, 'bits', 4),
    integerOf(node, 'block_size', 32),
    integerOf(node, 'K', 0),
    integerOf(node, 'N', 0),
  ]
  if ((bits !== 4 && bits !== 8) || order !== '')
    throw unsupportedForm(call, 'has other bits than 4 or 8, or an order of columns')
  const blocks = Math.ceil(k / blockSize)
  const type = backward.typeOf(x)
  const toFloat = (value: string) =>
    type === DataType.float ? value : backward.op('Cast', [value], { to: { int: DataType.float } })
  const reshape = (value: string, dims: readonly number[]) =>
    backward.op('Reshape', [value, backward.integers(dims)])
  // Runtimes must not fold what is computed from the weight into a copy, so a shape is computed in each run.
  const runtimeShape = (dims: readonly number[]) =>
    backward.multiply(backward.runtimeOne(), backward.integers(dims))
  const unpacked = (
    bytes: string,
    dims: readonly number[],
    shape: (dims: readonly number[]) => string,
  ): string => {
    const count = dims.reduce((product, size) => product * size, 1)
    return bits === 8
      ? backward.op('Reshape', [bytes, shape(dims)])
      : reshape(nibbles(backward, backward.op('Reshape', [bytes, shape([1, count / 2])])), dims)
  }
  const integers = unpacked(packed, [n * blocks, blockSize], runtimeShape)
  const blockScales = toFloat(reshape(scales, [n * blocks]))
  const dequantise = (zero: readonly string[]) =>
    backward.op('DequantizeLinear', [integers, blockScales, ...zero], { axis: { int: 0 } })
  const unpackedZeroPoints = () => {
    const zerosOfRow = (Math.ceil((blocks * bits) / 8) * 8) / bits
    const all = unpacked(zeroPoints, [n, zerosOfRow], (dims) => backward.integers(dims))
    return reshape(firstColumns(backward, all, blocks), [n * blocks])
  }
  const dequantised = () => {
    if (zeroPoints === '') return dequantise([filled(backward, 2 ** (bits - 1), n * blocks)])
    if (backward.typeOf(zeroPoints) === DataType.uint8) return dequantise([unpackedZeroPoints()])
    const offsets = backward.multiply(toFloat(reshape(zeroPoints, [n * blocks])), blockScales)
    return backward.subtract(dequantise([]), reshape(offsets, [n * blocks, 1]))
  }
  const whole = reshape(dequantised(), [n, blocks * blockSize])
  const full = type === DataType.float ? whole : backward.op('Cast', [whole], { to: { int: type } })
  const isPadded = blocks * blockSize !== k
  const weight = isPadded ? firstColumns(backward, full, k) : full
  return [
    flatProduct(backward, { gradient, weight, x, isTransposed: true }),
    ...[1, 2, 3, 4].map(() => undefined),
    needs(5) ? backward.undoBroadcast(gradient, outputs[0], bias) : undefined,
  ]
}

/** The first columns of a matrix. */
function firstColumns(backward: Backward, matrix: string, count: number): string {
  return backward.op('Slice', [
    matrix,
    backward.integers([0]),
    backward.integers([count]),
    backward.integers([1]),
  ])
}

/** A vector of one integer, uint8. */
function filled(backward: Backward, integer: number, length: number): string {
  const tensor = { dims: [1], dataType: DataType.uint8, data: Uint8Array.of(integer) }
  return backward.once('ConstantOfShape', [backward.integers([length])], { value: { tensor } })
}

/**
 * Bytes `[1, m]` as two numbers of 4 bits each, the lower first, `[m, 2]`. They are joined by a transposition, which is much faster than a `Concat`
 * of single numbers.
 */
function nibbles(backward: Backward, bytes: string): string {
  const data = Uint8Array.of(4)
  const four = backward.once('Constant', [], {
    value: { tensor: { dims: [], dataType: DataType.uint8, data } },
  })
  const shifted = (value: string, direction: 'LEFT' | 'RIGHT') =>
    backward.op('BitShift', [value, four], { direction: { string: direction } })
  const halves = [shifted(shifted(bytes, 'LEFT'), 'RIGHT'), shifted(bytes, 'RIGHT')]
  return backward.transpose(backward.op('Concat', halves, { axis: { int: 0 } }), [1, 0])
}
