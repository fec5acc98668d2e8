/** Normalisations, in closed form from their inputs; and softmax. */
import { axisFromStart, floatOf, integerOf, type RuleCall, type RuleTable, unsupportedForm } from '../rule.js'

export const NORMALISATION_RULES: RuleTable = [
  ['LayerNormalization', (call) => layerNormalization(call, { isCentred: true })],
  ['RMSNormalization', (call) => layerNormalization(call, { isCentred: false })],
  ['SimplifiedLayerNormalization', (call) => layerNormalization(call, { isCentred: false })],
  ['com.microsoft:SkipLayerNormalization', (call) => skipNormalization(call, { isCentred: true })],
  ['com.microsoft:SkipSimplifiedLayerNormalization', (call) => skipNormalization(call, { isCentred: false })],
  ['InstanceNormalization', (call) => groupNormalization(call, 1)],
  ['BatchNormalization', batchNormalization],
  ['LpNormalization', lpNormalization],
  ['Softmax', softmax],
  ['LogSoftmax', logSoftmax],
]

interface Statistics {
  /** The numbers that are normalised. */
  readonly x: string
  /** The gradient times the scale, in the shape of x. */
  readonly gradient: string
  readonly axes: readonly number[]
  readonly epsilon: number
  readonly isCentred: boolean
}

/**
 * With x̂ = (x − μ)/σ: ∂L/∂x = (g − mean(g) − x̂·mean(g·x̂))/σ; without centring μ = 0 and there is no mean(g). @returns ∂L/∂x and x̂
 */
function normalised({ backward }: RuleCall, { axes, epsilon, isCentred, ...values }: Statistics) {
  const { multiply, subtract, divide } = backward
  // The square of a float16 number above 255 is infinite.
  const x = backward.widened(values.x)
  const gradient = backward.widened(values.gradient)
  const mean = (value: string) => backward.mean(value, axes)
  const centred = isCentred ? subtract(x, mean(x)) : x
  const variance = mean(multiply(centred, centred))
  const deviation = backward.op('Sqrt', [backward.add(variance, backward.number(epsilon, x))])
  const unit = divide(centred, deviation)
  const along = multiply(unit, mean(multiply(gradient, unit)))
  const rest = isCentred ? subtract(gradient, mean(gradient)) : gradient
  const result = divide(subtract(rest, along), deviation)
  return { result: backward.roundedLike(result, values.x), unit: backward.roundedLike(unit, values.x) }
}

function layerNormalization(
  call: RuleCall,
  { isCentred }: { isCentred: boolean },
): readonly (string | undefined)[] {
  const { node, inputs, needs, backward } = call
  const [x, scale = '', bias = ''] = inputs as [string, string?, string?]
  const gradient = onlyFirst(call)
  const rank = backward.rankOf(x, node)
  const first = axisFromStart(integerOf(node, 'axis', -1), rank)
  const axes = Array.from({ length: rank - first }, (_, i) => first + i)
  const scaled = scale === '' ? gradient : backward.multiply(gradient, scale)
  const epsilon = floatOf(node, 'epsilon', 1e-5)
  const { result, unit } = normalised(call, { x, gradient: scaled, axes, epsilon, isCentred })
  const parameter = (value: string, input: string) => backward.undoBroadcast(value, x, input)
  return [
    needs(0) ? result : undefined,
    needs(1) ? parameter(backward.multiply(gradient, unit), scale) : undefined,
    needs(2) ? parameter(gradient, bias) : undefined,
  ]
}

/** The sum of x, skip and an optional bias is normalised; the last output is that sum. */
function skipNormalization(
  call: RuleCall,
  { isCentred }: { isCentred: boolean },
): readonly (string | undefined)[] {
  const { node, inputs, outputs, gradients, needs, backward } = call
  const [x, skip] = inputs as [string, string]
  // SkipLayerNormalization(x, skip, gamma, beta, bias), SkipSimplifiedLayerNormalization(x, skip, gamma, bias).
  const [gamma, bias] = isCentred ? [inputs[2], inputs[4] ?? ''] : [inputs[2], inputs[3] ?? '']
  const [normalisedGradient, mean, deviation, sumGradient] = gradients
  if (mean !== undefined || deviation !== undefined)
    throw unsupportedForm(call, 'gives a mean or a deviation that the loss depends on')
  const rank = backward.rankOf(x, node)
  const sum = outputs[3] || backward.add(backward.add(x, skip), bias === '' ? backward.number(0, x) : bias)
  backward.setType(sum, backward.typeOf(x))
  const parts: string[] = sumGradient === undefined ? [] : [sumGradient]
  if (normalisedGradient !== undefined) {
    const scaled = backward.multiply(normalisedGradient, gamma)
    const epsilon = floatOf(node, 'epsilon', 1e-12)
    parts.push(normalised(call, { x: sum, gradient: scaled, axes: [rank - 1], epsilon, isCentred }).result)
  }
  const result = parts.reduce((a, b) => backward.add(a, b))
  return [needs(0) ? result : undefined, needs(1) ? backward.undoBroadcast(result, x, skip) : undefined]
}

/** The axes after the batch and the channels, for each channel. */
function groupNormalization(call: RuleCall, channelAxis: number): readonly (string | undefined)[] {
  const { node, inputs, gradient, needs, backward } = call
  const [x, scale] = inputs as [string, string]
  const rank = backward.rankOf(x, node)
  const axes = Array.from({ length: rank - channelAxis - 1 }, (_, i) => channelAxis + 1 + i)
  const scaled = backward.multiply(gradient, perChannel(call, scale, rank))
  const epsilon = floatOf(node, 'epsilon', 1e-5)
  const { result } = normalised(call, { x, gradient: scaled, axes, epsilon, isCentred: true })
  if (needs(1) || needs(2)) throw unsupportedForm(call, 'has trained parameters or unusual attributes')
  return [result]
}

/** With running statistics it is a scale and a shift for each channel. */
function batchNormalization(call: RuleCall): readonly (string | undefined)[] {
  const { node, inputs, gradient, needs, backward } = call
  const [x, scale, , , variance] = inputs as [string, string, string, string, string]
  if (integerOf(node, 'training_mode', 0) !== 0 || [1, 2, 3, 4].some(needs))
    throw unsupportedForm(call, 'has trained parameters or unusual attributes')
  const epsilon = backward.number(floatOf(node, 'epsilon', 1e-5), variance)
  const deviation = backward.op('Sqrt', [backward.add(variance, epsilon)])
  const factor = backward.divide(scale, deviation)
  return [backward.multiply(gradient, perChannel(call, factor, backward.rankOf(x, node)))]
}

/** A vector of the channels, in a shape that broadcasts along axis 1. */
function perChannel({ backward }: RuleCall, vector: string, rank: number): string {
  const shape = [1, -1, ...Array.from({ length: rank - 2 }, () => 1)]
  return backward.op('Reshape', [vector, backward.integers(shape)])
}

/** y = x/‖x‖: (g − y·Σ g·y)/‖x‖ for the Euclidean norm. */
function lpNormalization(call: RuleCall): readonly string[] {
  const { node, inputs, outputs, gradient, backward } = call
  if (integerOf(node, 'p', 2) !== 2)
    throw unsupportedForm(call, 'has trained parameters or unusual attributes')
  const [x, y] = [inputs[0], outputs[0]]
  const axis = axisFromStart(integerOf(node, 'axis', -1), backward.rankOf(x, node))
  const norm = backward.op('Sqrt', [backward.sum(backward.multiply(x, x), [axis], true)])
  const along = backward.multiply(y, backward.sum(backward.multiply(gradient, y), [axis], true))
  return [backward.divideByNorm(backward.subtract(gradient, along), norm, x)]
}

/** y·(g − Σ g·y) */
function softmax(call: RuleCall): readonly string[] {
  const { node, inputs, outputs, gradient, backward } = call
  const axis = axisFromStart(integerOf(node, 'axis', -1), backward.rankOf(inputs[0], node))
  const product = backward.multiply(gradient, outputs[0])
  const along = backward.multiply(outputs[0], backward.sum(product, [axis], true))
  return [backward.subtract(product, along)]
}

/** g − eʸ·Σ g */
function logSoftmax(call: RuleCall): readonly string[] {
  const { node, inputs, outputs, gradient, backward } = call
  const axis = axisFromStart(integerOf(node, 'axis', -1), backward.rankOf(inputs[0], node))
  const total = backward.sum(gradient, [axis], true)
  return [backward.subtract(gradient, backward.multiply(backward.op('Exp', [outputs[0]]), total))]
}

function onlyFirst(call: RuleCall): string {
  const [first, ...others] = call.gradients
  if (first === undefined || others.some((one) => one !== undefined))
    throw unsupportedForm(call, 'gives a mean or a deviation that the loss depends on')
  return first
}
