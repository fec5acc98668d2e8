/** Activation functions. */
import { floatOf, type RuleCall, type RuleTable } from '../rule.js'
import { factor, type UnaryCall, unary } from './elementwise.js'

export const ACTIVATION_RULES: RuleTable = [
  ...unary('Relu', ({ backward, gradient, x, y }) =>
    backward.where(isPositive({ backward, x }), gradient, y),
  ),
  ...unary('LeakyRelu', (call) => piecewise(call, floatOf(call.node, 'alpha', 0.01))),
  ...unary('ThresholdedRelu', ({ node, backward, gradient, x }) => {
    const threshold = backward.number(floatOf(node, 'alpha', 1), x)
    return backward.where(backward.op('Greater', [x, threshold]), gradient, x)
  }),
  ...unary('Elu', ({ node, backward, gradient, x, y }) => {
    const alpha = backward.number(floatOf(node, 'alpha', 1), x)
    return choose({ backward, x }, gradient, backward.multiply(gradient, backward.add(y, alpha)))
  }),
  ...unary('Selu', ({ node, backward, gradient, x, y }) => {
    const gamma = floatOf(node, 'gamma', 1.0507009873554805)
    const alpha = floatOf(node, 'alpha', 1.6732632423543772)
    const negative = backward.add(y, backward.number(gamma * alpha, x))
    return choose({ backward, x }, backward.scale(gradient, gamma, x), backward.multiply(gradient, negative))
  }),
  ...unary('Celu', ({ node, backward, gradient, x }) => {
    const power = backward.op('Exp', [backward.scale(x, 1 / floatOf(node, 'alpha', 1), x)])
    return choose({ backward, x }, gradient, backward.multiply(gradient, power))
  }),
  // g − (g·y)·y and g·y − (g·y)·y: runtimes cannot compute a part of it in the forward pass, and keep that as well as y.
  ...unary('Tanh', ({ backward, gradient, y }) =>
    backward.subtract(gradient, backward.multiply(backward.multiply(gradient, y), y)),
  ),
  ...unary('Sigmoid', ({ backward, gradient, y }) => {
    const scaled = backward.multiply(gradient, y)
    return backward.subtract(scaled, backward.multiply(scaled, y))
  }),
  ...factor('Softplus', ({ backward, x }) => backward.op('Sigmoid', [x])),
  ...unary('Softsign', ({ backward, gradient, x }) => {
    const root = backward.add(backward.op('Abs', [x]), backward.number(1, x))
    return backward.divide(gradient, backward.multiply(root, root))
  }),
  ...unary('HardSigmoid', ({ node, backward, gradient, y }) => {
    const scaled = backward.scale(gradient, floatOf(node, 'alpha', 0.2), y)
    return backward.where(isInside({ backward, y }), scaled, y)
  }),
  ...factor('HardSwish', hardSwish),
  ...factor('Mish', mish),
  ...factor('Gelu', ({ node, backward, x }) =>
    node.attribute('approximate')?.string === 'tanh' ? tanhGelu({ backward, x }) : erfGelu({ backward, x }),
  ),
  ...factor('com.microsoft:Gelu', erfGelu),
  ['com.microsoft:QuickGelu', (call) => quickGelu(call, floatOf(call.node, 'alpha', 1.702))],
  ['Swish', (call) => quickGelu(call, floatOf(call.node, 'alpha', 1))],
  ['com.microsoft:FastGelu', (call) => withBias(call, tanhGelu)],
  ['com.microsoft:BiasGelu', (call) => withBias(call, erfGelu)],
  ['Clip', clip],
]

type At = Pick<UnaryCall, 'backward' | 'x'>

const isPositive = ({ backward, x }: At) => backward.op('Greater', [x, backward.number(0, x)])

const choose = (at: At, positive: string, negative: string) =>
  at.backward.op('Where', [isPositive(at), positive, negative])

function piecewise({ backward, gradient, x }: UnaryCall, slope: number): string {
  return choose({ backward, x }, gradient, backward.scale(gradient, slope, x))
}

/** y·(1 − y) */
function sigmoidDerivative({ backward, y }: Pick<UnaryCall, 'backward' | 'y'>): string {
  return backward.multiply(y, backward.subtract(backward.number(1, y), y))
}

/** Whether 0 < y < 1. */
function isInside({ backward, y }: Pick<UnaryCall, 'backward' | 'y'>): string {
  return backward.op('And', [
    backward.op('Greater', [y, backward.number(0, y)]),
    backward.op('Less', [y, backward.number(1, y)]),
  ])
}

/** x·h(x) with h(x) = min(max(x/6 + 1/2, 0), 1): h + x/6 inside, h outside. */
function hardSwish({ backward, x }: At): string {
  const gate = backward.op('HardSigmoid', [x], { alpha: { float: 1 / 6 }, beta: { float: 0.5 } })
  const inside = backward.add(gate, backward.scale(x, 1 / 6, x))
  return backward.op('Where', [isInside({ backward, y: gate }), inside, gate])
}

/** x·t with t = tanh(softplus(x)): t + x·σ(x)·(1 − t²). */
function mish({ backward, x }: At): string {
  const t = backward.op('Tanh', [backward.op('Softplus', [x])])
  const slope = backward.subtract(backward.number(1, x), backward.multiply(t, t))
  return backward.add(t, backward.multiply(backward.multiply(x, backward.op('Sigmoid', [x])), slope))
}

/**
 * Φ(x) + x·φ(x) with the distribution and the density of the standard normal distribution. Φ = ½·erf(x/√2) + ½ is in [0, 1], where `HardSigmoid`
 * is linear: one pass over memory instead of two.
 */
function erfGelu({ backward, x }: At): string {
  const erf = backward.op('Erf', [backward.scale(x, Math.SQRT1_2, x)])
  const distribution = backward.op('HardSigmoid', [erf], { alpha: { float: 0.5 }, beta: { float: 0.5 } })
  const power = backward.op('Exp', [backward.multiply(x, backward.scale(x, -0.5, x))])
  const density = backward.scale(power, 1 / Math.sqrt(2 * Math.PI), x)
  return backward.add(distribution, backward.multiply(x, density))
}

/** ½·x·(1 + t) with t = tanh(√(2/π)·(x + 0.044715·x³)). */
function tanhGelu({ backward, x }: At): string {
  const [k, c] = [Math.sqrt(2 / Math.PI), 0.044715]
  const one = backward.number(1, x)
  const square = backward.multiply(x, x)
  const inner = backward.multiply(x, backward.add(backward.scale(square, k * c, x), backward.number(k, x)))
  const t = backward.op('Tanh', [inner])
  const slope = backward.add(backward.scale(square, 3 * k * c, x), backward.number(k, x))
  const change = backward.multiply(
    backward.multiply(x, slope),
    backward.subtract(one, backward.multiply(t, t)),
  )
  return backward.scale(backward.add(backward.add(one, t), change), 0.5, x)
}

/** x·σ(αx): s + αx·s·(1 − s). */
function quickGelu({ inputs: [x], gradient, backward }: RuleCall, alpha: number): readonly string[] {
  const scaled = backward.scale(x, alpha, x)
  const s = backward.op('Sigmoid', [scaled])
  const derivative = backward.add(s, backward.multiply(scaled, sigmoidDerivative({ backward, y: s })))
  return [backward.multiply(gradient, derivative)]
}

/** f(x + b), with an optional bias b of the last axis. */
function withBias(
  { inputs: [x, bias = ''], outputs, gradient, needs, backward }: RuleCall,
  derivative: (at: At) => string,
): readonly (string | undefined)[] {
  const sum = bias === '' ? x : backward.add(x, bias)
  backward.setType(sum, backward.typeOf(x))
  const result = backward.multiply(gradient, derivative({ backward, x: sum }))
  return [result, needs(1) ? backward.undoBroadcast(result, outputs[0], bias) : undefined]
}

/** The gradient passes where the limits do not apply, and at the limits themselves, as in PyTorch. */
function clip({ inputs: [x, min = '', max = ''], node, gradient, backward }: RuleCall): readonly string[] {
  const limit = (input: string, attribute: string) => {
    if (input !== '') return input
    const value = node.attribute(attribute)?.float
    return value === undefined ? undefined : backward.number(value, x)
  }
  const [low, high] = [limit(min, 'min'), limit(max, 'max')]
  const tests = [
    low === undefined ? [] : [backward.op('GreaterOrEqual', [x, low])],
    high === undefined ? [] : [backward.op('LessOrEqual', [x, high])],
  ].flat()
  const [first, second] = tests
  if (first === undefined) return [gradient]
  const isFree = second === undefined ? first : backward.op('And', [first, second])
  return [backward.where(isFree, gradient, x)]
}
