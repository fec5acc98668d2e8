/** Operators whose output has the dims of the first input, or of all inputs broadcast: activations, arithmetic, normalisations, casts. */
import { DataType } from '../../model/schema.js'
import type { Sizes } from '../dims.js'
import {
  forOperators,
  type InferOutputs,
  type KnownValue,
  NOTHING,
  type OperatorCall,
  type OperatorTable,
} from '../known-value.js'
import { Size } from '../size.js'

const [ZERO, ONE] = [Size.of(0), Size.of(1)]

export const ELEMENTWISE: OperatorTable = [
  // The output has the dims of the first input.
  ...forOperators(
    `Abs Acos Acosh Asin Asinh Atan Atanh Bernoulli BitwiseNot Ceil Celu Clip Cos Cosh CumSum Elu Erf Exp Floor Gelu HardSigmoid
     HardSwish Hardmax IsInf IsNaN LeakyRelu Log LogSoftmax LpNormalization LRN MeanVarianceNormalization Mish Reciprocal Relu
     Round Selu Shrink Sigmoid Sign Sin Sinh Softmax Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu Trilu
     QuantizeLinear DequantizeLinear Dropout RandomNormalLike RandomUniformLike EyeLike
     LayerNormalization RMSNormalization SimplifiedLayerNormalization GroupNormalization InstanceNormalization BatchNormalization
     GroupNorm SkipLayerNormalization SkipSimplifiedLayerNormalization ScatterElements ScatterND Scatter
     BiasGelu FastGelu QuickGelu BiasSoftmax BiasDropout RotaryEmbedding GemmaRotaryEmbedding GatedRelativePositionBias`,
    dimsOfFirstInput,
  ),
  ['DynamicQuantizeLinear', ({ inputs: [x] }) => [{ dims: x?.dims }, { dims: [] }, { dims: [] }]],
  ['Identity', passFirstInput],
  ['Cast', cast],
  ['CastLike', dimsOfFirstInput],
  // The inputs are broadcast.
  ...forOperators(`And BitShift BitwiseAnd BitwiseOr BitwiseXor Mean Or Pow PRelu Sum Xor`, broadcast),
  ['Add', arithmetic((sizes, a, b) => sizes.plus(a, b))],
  ['Sub', arithmetic((sizes, a, b) => sizes.minus(a, b))],
  ['Mul', arithmetic((sizes, a, b) => sizes.times(a, b))],
  ['Div', arithmetic((sizes, a, b) => sizes.quotient(a, b))],
  ['Mod', arithmetic(remainder)],
  ['Min', arithmetic((sizes, a, b) => extreme('min', Math.min, sizes, a, b))],
  ['Max', arithmetic((sizes, a, b) => extreme('max', Math.max, sizes, a, b))],
  ['Equal', arithmetic(equality)],
  ['Greater', arithmetic(comparison((a, b) => a > b))],
  ['GreaterOrEqual', arithmetic(comparison((a, b) => a >= b))],
  ['Less', arithmetic(comparison((a, b) => a < b))],
  ['LessOrEqual', arithmetic(comparison((a, b) => a <= b))],
  ['Not', ({ inputs: [x], sizes }) => [mapIntegers(x, (value) => sizes.minus(ONE, value))]],
  ['Neg', ({ inputs: [x], sizes }) => [mapIntegers(x, (value) => sizes.minus(ZERO, value))]],
  ['Where', where],
]

function dimsOfFirstInput({ node, inputs: [x = NOTHING] }: OperatorCall): readonly KnownValue[] {
  const known = x.isBatchFirst ? { isBatchFirst: true } : { dims: x.dims }
  // The last output of a skip connection is the residual sum.
  if (node.opType.startsWith('Skip')) return [known, NOTHING, NOTHING, known]
  return node.opType === 'Dropout' ? [known, known] : [known]
}

function passFirstInput({ inputs }: OperatorCall): readonly KnownValue[] {
  return [inputs[0] ?? NOTHING]
}

function cast({ node, inputs: [x = NOTHING] }: OperatorCall): readonly KnownValue[] {
  const to = Number(node.attribute('to')?.int)
  const isInteger = [DataType.int64, DataType.int32, DataType.bool].some((type) => type === to)
  return [isInteger ? x : { dims: x.dims }]
}

function broadcast({ inputs, sizes }: OperatorCall): readonly KnownValue[] {
  const keepsAxes = ({ dims, isBatchFirst }: KnownValue) =>
    isBatchFirst || (dims !== undefined && dims.length < 2)
  if (inputs.some((input) => input.isBatchFirst) && inputs.every(keepsAxes)) return [{ isBatchFirst: true }]
  return [{ dims: sizes.broadcast(inputs.map(({ dims }) => dims)) }]
}

function arithmetic(compute: (sizes: Sizes, a: Size, b: Size) => Size): InferOutputs {
  return (call) => {
    const [known = NOTHING] = broadcast(call)
    return [{ ...known, integers: pairwise(call, compute) }]
  }
}

function pairwise(
  { inputs: [a, b, ...others], sizes }: OperatorCall,
  compute: (sizes: Sizes, a: Size, b: Size) => Size,
): readonly Size[] | undefined {
  if (others.length > 0) return undefined
  const [left, right] = [a?.integers, b?.integers]
  if (!left || !right || (left.length !== right.length && left.length !== 1 && right.length !== 1))
    return undefined
  const length = left.length === 1 ? right.length : left.length
  const at = (list: readonly Size[], i: number) => list[list.length === 1 ? 0 : i]
  return Array.from({ length }, (_, i) => compute(sizes, at(left, i), at(right, i)))
}

/** Returns 1 if the sizes are certainly equal, 0 if they certainly differ, otherwise an unknown number. */
function equality(sizes: Sizes, a: Size, b: Size): Size {
  if (a.equals(b)) return ONE
  const areNumbers = a.value !== undefined && b.value !== undefined
  const isBelow = (x: Size, natural: Size) => (x.value ?? 0) < 0 && natural.isNatural
  return areNumbers || isBelow(a, b) || isBelow(b, a) ? ZERO : sizes.unknown()
}

/** Returns 1 for true, 0 for false, or an unknown number. */
function comparison(compare: (a: number, b: number) => boolean): (sizes: Sizes, a: Size, b: Size) => Size {
  return (sizes, { value: a }, { value: b }) => {
    if (a === undefined || b === undefined) return sizes.unknown()
    return compare(a, b) ? ONE : ZERO
  }
}

function remainder(sizes: Sizes, a: Size, b: Size): Size {
  const [dividend, divisor] = [a.value, b.value]
  if (dividend !== undefined && divisor !== undefined && dividend >= 0 && divisor > 0)
    return Size.of(dividend % divisor)
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

function mapIntegers(x: KnownValue | undefined, compute: (value: Size) => Size): KnownValue {
  return { dims: x?.dims, integers: x?.integers?.map(compute) }
}

function where({ inputs, sizes }: OperatorCall): readonly KnownValue[] {
  const [condition, a, b] = inputs.map(({ integers }) => integers)
  const dims = sizes.broadcast(inputs.map((input) => input.dims))
  if (!condition || !a || !b) return [{ dims }]
  const length = Math.max(condition.length, a.length, b.length)
  const integers = Array.from({ length }, (_, i) => {
    const [flag, yes, no] = [condition, a, b].map((list) => list[list.length === 1 ? 0 : i])
    if (!flag || !yes || !no) return sizes.unknown()
    if (yes.equals(no)) return yes
    return flag.value === undefined ? sizes.unknown() : flag.value === 0 ? no : yes
  })
  return [{ dims, integers }]
}
