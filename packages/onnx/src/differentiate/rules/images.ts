/** Convolutions and pooling with frozen weights. */
import { integerOf, type RuleCall, type RuleTable, unsupportedForm } from '../rule.js'

export const IMAGE_RULES: RuleTable = [
  ['Conv', convolution],
  ['AveragePool', averagePool],
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

/** A convolution of each channel with a kernel of equal numbers. */
function averagePool(call: RuleCall): readonly string[] {
  const { node, inputs, outputs, gradient, backward } = call
  const kernel = listOf(call, 'kernel_shape', 0, 1)
  const spatial = kernel.length
  const pads = listOf(call, 'pads', 2 * spatial, 0)
  const countsPads = integerOf(node, 'count_include_pad', 0) !== 0 || pads.every((size) => size === 0)
  if (integerOf(node, 'ceil_mode', 0) !== 0 || !countsPads)
    throw unsupportedForm(call, 'has ceil_mode, or pads that do not count')
  const size = kernel.reduce((product, one) => product * one, 1)
  const weight = backward.op('Expand', [
    backward.number(1 / size, outputs[0]),
    backward.integers([1, 1, ...kernel]),
  ])
  const shape = (value: string) =>
    backward.op('Slice', [backward.shapeOf(value), backward.integers([2]), backward.integers([2 + spatial])])
  const single = (value: string, like: string) =>
    backward.op('Reshape', [value, backward.concat([backward.integers([-1, 1]), shape(like)])])
  const result = backward.op('ConvTranspose', [single(gradient, outputs[0]), weight], {
    strides: { ints: listOf(call, 'strides', spatial, 1) },
    dilations: { ints: listOf(call, 'dilations', spatial, 1) },
    pads: { ints: beginPads(call, spatial) },
  })
  const missing = backward.subtract(
    shape(inputs[0]),
    backward.op('Slice', [
      backward.op('Shape', [result]),
      backward.integers([2]),
      backward.integers([2 + spatial]),
    ]),
  )
  const none = backward.integers(Array.from({ length: spatial + 4 }, () => 0))
  const whole = backward.op('Pad', [result, backward.op('Concat', [none, missing], { axis: { int: 0 } })])
  return [backward.reshapeLike(whole, inputs[0])]
}
