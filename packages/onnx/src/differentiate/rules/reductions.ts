/** Operators that reduce axes. */
import type { Backward } from '../backward.js'
import { axisFromStart, integerOf, type RuleCall, type RuleTable, unsupportedForm } from '../rule.js'

export const REDUCTION_RULES: RuleTable = [
  ['ReduceSum', reduction(({ gradient }) => gradient)],
  ['ReduceMean', reduction(({ gradient, backward, x, y }) => dividedByCount(backward, gradient, x, y))],
  [
    'ReduceSumSquare',
    reduction(({ gradient, backward, x }) => backward.multiply(gradient, backward.scale(x, 2, x))),
  ],
  [
    'ReduceL2',
    reduction(({ gradient, backward, x, y }) => backward.multiply(gradient, backward.divideByNorm(x, y, x))),
  ],
  [
    'ReduceL1',
    reduction(({ gradient, backward, x }) => backward.multiply(gradient, backward.op('Sign', [x]))),
  ],
  [
    'ReduceLogSumExp',
    reduction(({ gradient, backward, x, y }) =>
      backward.multiply(gradient, backward.op('Exp', [backward.subtract(x, y)])),
    ),
  ],
  ['ReduceMax', reduction(extreme)],
  ['ReduceMin', reduction(extreme)],
  ['CumSum', cumulativeSum],
  ['GlobalAveragePool', globalAverage],
]

/** The gradient and the result with their reduced axes, of size 1. */
interface ReductionCall {
  readonly gradient: string
  readonly x: string
  readonly y: string
  readonly axes: readonly number[]
  readonly backward: Backward
}

/** The rule of a reduction; what it returns is broadcast to x. */
function reduction(rule: (call: ReductionCall) => string) {
  return (call: RuleCall): readonly string[] => {
    const { node, inputs, outputs, gradient, backward } = call
    const [x, list = ''] = inputs as [string, string?]
    const rank = backward.rankOf(x, node)
    const named = list === '' ? attributeAxes(call) : backward.constantIntegers(list)
    if (named === undefined) throw unsupportedForm(call, 'reads its axes from a value that is not constant')
    const isIdentity = named.length === 0 && integerOf(node, 'noop_with_empty_axes', 0) !== 0
    const all = Array.from({ length: rank }, (_, i) => i)
    const axes = isIdentity ? [] : named.length > 0 ? named.map((axis) => axisFromStart(axis, rank)) : all
    const keeps = integerOf(node, 'keepdims', 1) !== 0
    const withAxes = (value: string) => {
      if (keeps || axes.length === 0) return value
      const unsqueezed = backward.op('Unsqueeze', [value, backward.integers(axes)])
      backward.setType(unsqueezed, backward.typeOf(outputs[0]))
      return unsqueezed
    }
    const result = rule({ gradient: withAxes(gradient), x, y: withAxes(outputs[0]), axes, backward })
    return [backward.op('Expand', [result, backward.shapeOf(x)])]
  }
}

function attributeAxes({ node }: RuleCall): readonly number[] {
  return Array.from(node.attribute('axes')?.ints ?? [], Number)
}

/** The gradient, divided by how many numbers of x are reduced to one of y. float16 ends at 65504. */
function dividedByCount(backward: Backward, gradient: string, x: string, y: string): string {
  const count = backward.op('Div', [backward.op('Size', [x]), backward.op('Size', [y])])
  return backward.inFloat32(gradient, (wide) => backward.divide(wide, backward.op('CastLike', [count, wide])))
}

/** The numbers that are equal to the extreme share its gradient, as in PyTorch's `amax`. */
function extreme({ gradient, backward, x, y, axes }: ReductionCall): string {
  const isExtreme = backward.op('CastLike', [backward.op('Equal', [x, y]), y])
  const count = backward.sum(isExtreme, axes, true)
  return backward.multiply(isExtreme, backward.divide(gradient, count))
}

/** The sum in the other direction. */
function cumulativeSum({ node, inputs, gradient, backward }: RuleCall): readonly string[] {
  return [
    backward.op('CumSum', [gradient, inputs[1]], {
      exclusive: { int: integerOf(node, 'exclusive', 0) },
      reverse: { int: 1 - integerOf(node, 'reverse', 0) },
    }),
  ]
}

function globalAverage({ inputs, outputs, gradient, backward }: RuleCall): readonly string[] {
  const share = dividedByCount(backward, gradient, inputs[0], outputs[0])
  return [backward.op('Expand', [share, backward.shapeOf(inputs[0])])]
}
