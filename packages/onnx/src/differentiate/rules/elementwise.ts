/** Arithmetic on numbers at the same position, with broadcasting. */
import { DataType } from '../../model/schema.js'
import { type GradientRule, type RuleCall, type RuleTable, rulesFor, unsupportedForm } from '../rule.js'
import { isFloatType } from '../scalar.js'

export const ELEMENTWISE_RULES: RuleTable = [
  ['Identity', ({ gradient }) => [gradient]],
  ['Dropout', dropout],
  ...rulesFor('Cast CastLike', castBack),
  ['Add', broadcast((call) => [call.gradient, call.gradient])],
  [
    'Sub',
    broadcast(({ gradient, backward, needs }) => [
      gradient,
      needs(1) ? backward.op('Neg', [gradient]) : undefined,
    ]),
  ],
  ['Mul', broadcast(product)],
  ['Div', broadcast(quotient)],
  ['Pow', broadcast(power)],
  ['Sum', broadcast(({ inputs, gradient }) => inputs.map(() => gradient))],
  ['Mean', broadcast(mean)],
  ...rulesFor('Min Max', broadcast(extreme)),
  ['Where', broadcast(chosen)],
  ['PRelu', broadcast(slopes)],
  ...unary('Neg', ({ gradient, backward }) => backward.op('Neg', [gradient])),
  ...factor('Abs', ({ backward, x }) => backward.op('Sign', [x])),
  ...factor('Exp', ({ y }) => y),
  ...unary('Log', ({ gradient, backward, x }) => backward.divide(gradient, x)),
  ...unary('Sqrt', ({ gradient, backward, y }) => backward.divide(backward.scale(gradient, 0.5, y), y)),
  ...factor('Reciprocal', ({ backward, y }) => backward.op('Neg', [backward.multiply(y, y)])),
  ...factor('Erf', ({ backward, x }) =>
    backward.scale(
      backward.op('Exp', [backward.op('Neg', [backward.multiply(x, x)])]),
      2 / Math.sqrt(Math.PI),
      x,
    ),
  ),
  ...factor('Sin', ({ backward, x }) => backward.op('Cos', [x])),
  ...factor('Cos', ({ backward, x }) => backward.op('Neg', [backward.op('Sin', [x])])),
  ...factor('Tan', ({ backward, y }) => backward.add(backward.multiply(y, y), backward.number(1, y))),
  ...factor('Sinh', ({ backward, x }) => backward.op('Cosh', [x])),
  ...factor('Cosh', ({ backward, x }) => backward.op('Sinh', [x])),
]

/** A call for an operator of one input; x and y are its input and output. */
export interface UnaryCall extends RuleCall {
  readonly x: string
  readonly y: string
}

/** The rule of an operator of one input. */
export function unary(name: string, rule: (call: UnaryCall) => string): RuleTable {
  return [[name, (call) => [rule({ ...call, x: call.inputs[0], y: call.outputs[0] })]]]
}

/** The rule of an operator of one input, whose gradient is a factor times that of the output. */
export function factor(name: string, derivative: (call: UnaryCall) => string): RuleTable {
  return unary(name, (call) => call.backward.multiply(call.gradient, derivative(call)))
}

/** Sums the gradients over the axes along which the inputs were broadcast. */
function broadcast(rule: (call: RuleCall) => readonly (string | undefined)[]): GradientRule {
  return (call) => {
    const { inputs, outputs, needs, backward } = call
    return rule(call).map((gradient, i) =>
      gradient !== undefined && needs(i)
        ? backward.undoBroadcast(gradient, outputs[0], inputs[i])
        : undefined,
    )
  }
}

/** Without training mode it gives its input. */
function dropout(call: RuleCall): readonly string[] {
  const { inputs, gradient, backward } = call
  const mode = inputs[2] ?? ''
  const isTraining = mode !== '' && backward.constantOf(mode)?.data()?.[0] !== 0
  if (isTraining) throw unsupportedForm(call, 'has a training_mode that is not constant false')
  return [gradient]
}

/** The gradient of a quantised value has the type float32. */
function castBack({ inputs, outputs, gradient, backward }: RuleCall): readonly string[] {
  const [from, to] = [inputs[0], outputs[0]].map((value) => backward.typeOf(value))
  const type = isFloatType(from) ? from : DataType.float
  return [type === to ? gradient : backward.op('Cast', [gradient], { to: { int: type } })]
}

function product({ inputs: [a, b], needs, gradient, backward }: RuleCall) {
  return [
    needs(0) ? backward.multiply(gradient, b) : undefined,
    needs(1) ? backward.multiply(gradient, a) : undefined,
  ]
}

function quotient({ inputs: [, b], outputs: [y], needs, gradient, backward }: RuleCall) {
  const overB = backward.divide(gradient, b)
  return [overB, needs(1) ? backward.op('Neg', [backward.multiply(overB, y)]) : undefined]
}

/** b·aᵇ⁻¹; and ln(a)·aᵇ, which is 0 if a is 0. */
function power({ inputs: [a, b], outputs: [y], needs, gradient, backward }: RuleCall) {
  const exponent = backward.constantOf(b)
  const isSquare = exponent !== undefined && isTwo(exponent.data(), exponent.dataType)
  const derivative = () => {
    if (isSquare) return backward.scale(a, 2, a)
    const type = backward.typeOf(a)
    const power = backward.typeOf(b) === type ? b : backward.op('Cast', [b], { to: { int: type } })
    const reduced = backward.subtract(power, backward.number(1, a))
    return backward.multiply(power, backward.op('Pow', [a, reduced]))
  }
  const logarithm = () => {
    const isPositive = backward.op('Greater', [a, backward.number(0, a)])
    const safe = backward.op('Where', [isPositive, a, backward.number(1, a)])
    return backward.multiply(gradient, backward.multiply(y, backward.op('Log', [safe])))
  }
  return [
    needs(0) ? backward.multiply(gradient, derivative()) : undefined,
    needs(1) ? logarithm() : undefined,
  ]
}

function isTwo(data: Uint8Array | undefined, type: number): boolean {
  if (!data) return false
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength)
  if (type === DataType.float) return data.byteLength === 4 && view.getFloat32(0, true) === 2
  if (type === DataType.double) return data.byteLength === 8 && view.getFloat64(0, true) === 2
  if (type === DataType.int64) return data.byteLength === 8 && view.getBigInt64(0, true) === 2n
  return type === DataType.float16 && data.byteLength === 2 && view.getUint16(0, true) === 0x4000
}

function mean({ inputs, outputs: [y], gradient, backward }: RuleCall) {
  const share = backward.scale(gradient, 1 / inputs.length, y)
  return inputs.map(() => share)
}

/** Inputs that are equal to the result share its gradient, as in PyTorch. */
function extreme({ inputs, outputs: [y], gradient, backward }: RuleCall) {
  const type = backward.typeOf(y)
  const isChosen = inputs.map((input) =>
    backward.op('Cast', [backward.op('Equal', [input, y])], { to: { int: type } }),
  )
  const count = isChosen.reduce((sum, one) => backward.add(sum, one))
  const share = backward.divide(gradient, count)
  return isChosen.map((one) => backward.multiply(share, one))
}

function chosen({ inputs: [condition], outputs: [y], needs, gradient, backward }: RuleCall) {
  const zero = backward.number(0, y)
  return [
    undefined,
    needs(1) ? backward.op('Where', [condition, gradient, zero]) : undefined,
    needs(2) ? backward.op('Where', [condition, zero, gradient]) : undefined,
  ]
}

function slopes({ inputs: [x, slope], needs, gradient, backward }: RuleCall) {
  const isPositive = backward.op('Greater', [x, backward.number(0, x)])
  return [
    backward.op('Where', [isPositive, gradient, backward.multiply(gradient, slope)]),
    needs(1)
      ? backward.op('Where', [isPositive, backward.number(0, x), backward.multiply(gradient, x)])
      : undefined,
  ]
}
