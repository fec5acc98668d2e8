/** Convolutions and pooling with frozen weights. */
import { copiedAttributes } from '../../model/attribute.js'
import { integerOf, type RuleCall, type RuleTable, unsupportedForm } from '../rule.js'

export const IMAGE_RULES: RuleTable = [
  ['Conv', convolution],
  ['AveragePool', averagePool],
  ['MaxPool', maxPool],
]

function listOf({ node }: RuleCall, name: string, length: number, missing: number): number[] {
  const list = Array.from(node.attribute(name)?.ints ?? [], Number)
  return list.length > 0 ? list : Array.from({ length }, () => missing)
}

/** The transposed convolution with the same weight. @see Dumoulin and Visin, "A guide to convolution arithmetic for deep learning" */
function convolution(call: RuleCall): readonly (string | undefined)[] {
  const { node, inputs, needs, gradient, backward } = call
  const [x, weight] = inputs as [string, string]
  if (needs(1) || needs(2)) throw unsupportedForm(call, 'has a trained kernel')
  const spatial = backward.rankOf(weight, node) - 2
  const strides = listOf(call, 'strides', spatial, 1)
  const result = backward.op('ConvTranspose', [gradient, weight], {
    strides: { ints: strides },
    dilations: { ints: listOf(call, 'dilations', spatial, 1) },
    group: { int: integerOf(node, 'group', 1) },
    pads: { ints: beginPads(call, spatial) },
  })
  return [fitted(call, result, x, spatial)]
}

/** The pads before each axis; none after it, where `fitted` cuts off exactly. */
function beginPads(call: RuleCall, spatial: number): number[] {
  const autoPad = call.node.attribute('auto_pad')?.string ?? 'NOTSET'
  if (autoPad !== 'NOTSET' && autoPad !== 'VALID') throw unsupportedForm(call, `has auto_pad ${autoPad}`)
  const pads = autoPad === 'VALID' ? [] : listOf(call, 'pads', 2 * spatial, 0)
  return Array.from({ length: 2 * spatial }, (_, i) => (i < spatial ? (pads[i] ?? 0) : 0))
}

/** Zeros for the ends of x that no kernel has reached, or without the numbers that belong to its pads. */
function fitted({ backward }: RuleCall, result: string, x: string, spatial: number): string {
  const missing = backward.subtract(backward.shapeOf(x), backward.op('Shape', [result]))
  const before = backward.integers(Array.from({ length: spatial + 2 }, () => 0))
  return backward.op('Pad', [result, backward.op('Concat', [before, missing], { axis: { int: 0 } })])
}

/** A convolution of each channel with a kernel of equal numbers, divided by the count of each window. */
function averagePool(call: RuleCall): readonly string[] {
  const { node, inputs, outputs, gradient, backward } = call
  const [x] = inputs
  const kernel = listOf(call, 'kernel_shape', 0, 1)
  const spatial = kernel.length
  const pads = listOf(call, 'pads', 2 * spatial, 0)
  const begins = beginPads(call, spatial)
  const strides = { ints: listOf(call, 'strides', spatial, 1) }
  const dilations = { ints: listOf(call, 'dilations', spatial, 1) }
  const countsPads = integerOf(node, 'count_include_pad', 0) !== 0 || pads.every((size) => size === 0)
  const isUniform = countsPads && integerOf(node, 'ceil_mode', 0) === 0
  const size = kernel.reduce((product, one) => product * one, 1)
  const weight = backward.op('Expand', [
    backward.number(isUniform ? 1 / size : 1, outputs[0]),
    backward.integers([1, 1, ...kernel]),
  ])
  const spatialShape = (value: string) =>
    backward.op('Slice', [
      backward.op('Shape', [value]),
      backward.integers([2]),
      backward.integers([2 + spatial]),
    ])
  const single = (value: string, like: string) =>
    backward.op('Reshape', [value, backward.concat([backward.integers([-1, 1]), spatialShape(like)])])
  const zeros = (count: number) => backward.integers(Array.from({ length: count }, () => 0))
  /** The factor of each output before its sum: the average of ones, by the runtime's own rules, divided by the number of ones. */
  const factors = () => {
    const ones = backward.op('Expand', [
      backward.number(1, outputs[0]),
      backward.concat([backward.integers([1, 1]), spatialShape(x)]),
    ])
    const averages = backward.op('AveragePool', [ones], copiedAttributes(node.attributes.values()))
    const before = backward.integers(begins.slice(0, spatial))
    const reach = kernel.map((length, axis) => (length - 1) * dilations.ints[axis] + 1)
    const last = backward.multiply(
      backward.subtract(spatialShape(averages), backward.integers([1])),
      backward.integers(strides.ints),
    )
    const end = backward.add(last, backward.integers(reach))
    const after = backward.subtract(end, backward.add(before, spatialShape(x)))
    const padded = backward.op('Pad', [ones, backward.concat([zeros(2), before, zeros(2), after])])
    return backward.divide(averages, backward.op('Conv', [padded, weight], { strides, dilations }))
  }
  const scaled = isUniform ? gradient : backward.multiply(gradient, factors())
  const result = backward.op('ConvTranspose', [single(scaled, outputs[0]), weight], {
    strides,
    dilations,
    pads: { ints: begins },
  })
  const missing = backward.subtract(spatialShape(x), spatialShape(result))
  const whole = backward.op('Pad', [result, backward.concat([zeros(spatial + 4), missing])])
  return [backward.reshapeLike(whole, x)]
}

/** Adds each gradient to the position of the largest number, as the operator itself finds it. */
function maxPool(call: RuleCall): readonly string[] {
  const { node, inputs, gradient, backward } = call
  const [x] = inputs
  const attributes = copiedAttributes(node.attributes.values())
  const [, indices] = backward.ops('MaxPool', [x], 2, attributes) as [string, string]
  if (integerOf(node, 'storage_order', 0) !== 0) throw unsupportedForm(call, 'has storage_order 1')
  const flat = (value: string) => backward.op('Reshape', [value, backward.integers([-1])])
  const zeros = backward.widened(backward.zerosLike(x))
  const sums = backward.inFloat32(gradient, (wide) =>
    backward.op('ScatterElements', [flat(zeros), flat(indices), flat(wide)], {
      axis: { int: 0 },
      reduction: { string: 'add' },
    }),
  )
  return [backward.reshapeLike(sums, x)]
}
