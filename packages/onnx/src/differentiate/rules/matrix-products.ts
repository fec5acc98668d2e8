/** Matrix products. Nothing is multiplied for an operand that is frozen. */
import { readEquation } from '../../shapes/einsum-equation.js'
import type { Backward } from '../backward.js'
import { floatOf, integerOf, type RuleCall, type RuleTable, unsupportedForm } from '../rule.js'

export const MATRIX_PRODUCT_RULES: RuleTable = [
  ['MatMul', (call) => matMul(call, { transA: false, transB: false, alpha: 1 })],
  ['com.microsoft:FusedMatMul', fusedMatMul],
  ['Gemm', gemm],
  ['Einsum', einsum],
]

interface MatMulOptions {
  readonly transA: boolean
  readonly transB: boolean
  readonly alpha: number
}

/** Y = α·op(A)·op(B), batches broadcast. */
function matMul(call: RuleCall, { transA, transB, alpha }: MatMulOptions): readonly (string | undefined)[] {
  const { node, inputs, outputs, needs, backward } = call
  const [a, b] = inputs as [string, string]
  const [rankA, rankB] = [backward.rankOf(a, node), backward.rankOf(b, node)]
  const gradient = backward.scale(call.gradient, alpha, outputs[0])
  if (rankA === 1 || rankB === 1) return vectorProduct({ ...call, gradient }, rankA, rankB)
  const rank = Math.max(rankA, rankB)
  const transposed = (value: string, ofRank: number) => backward.transposeMatrix(value, ofRank)
  const gradientA = () => {
    // One product for all tokens; a transposed copy of a frozen weight is never made.
    if (rankB === 2 && !transA)
      return flatProduct(backward, { gradient, weight: b, x: a, isTransposed: transB })
    const product = transA
      ? backward.op('MatMul', [transB ? transposed(b, rankB) : b, transposed(gradient, rank)])
      : backward.op('MatMul', [gradient, transB ? b : transposed(b, rankB)])
    return undoBatch(backward, product, { value: a, other: b })
  }
  const gradientB = () => {
    if (rankB === 2 && !transA) {
      const [tokensA, tokensG] = [a, gradient].map((value) => tokensOf(backward, value))
      const inputs = transB ? [tokensG, tokensA] : [tokensA, tokensG]
      return backward.op('Gemm', inputs, { transA: { int: 1 } })
    }
    const left = transA ? a : transposed(a, rankA)
    const product = transB
      ? backward.op('MatMul', [transposed(gradient, rank), transA ? transposed(a, rankA) : a])
      : backward.op('MatMul', [left, gradient])
    return undoBatch(backward, product, { value: b, other: a })
  }
  return [needs(0) ? gradientA() : undefined, needs(1) ? gradientB() : undefined]
}

/** All tokens as the rows of one matrix. The last size is not inferred, so that a batch may be empty. */
function tokensOf(backward: Backward, value: string): string {
  const last = backward.op('Gather', [backward.op('Shape', [value]), backward.integers([-1])], {
    axis: { int: 0 },
  })
  return backward.op('Reshape', [value, backward.concat([backward.integers([-1]), last])])
}

interface FlatProduct {
  readonly gradient: string
  readonly weight: string
  /** The forward value whose gradient this is. */
  readonly x: string
  /** Whether the weight is `[out, in]`. */
  readonly isTransposed: boolean
}

/** ∂L/∂x = g·Wᵀ for a matrix W, as one `Gemm`, which reads W as it is stored. */
export function flatProduct(backward: Backward, { gradient, weight, x, isTransposed }: FlatProduct): string {
  const product = backward.op('Gemm', [tokensOf(backward, gradient), weight], {
    transB: { int: isTransposed ? 0 : 1 },
  })
  return backward.reshapeLike(product, x)
}

/** Sums over the axes of the batch along which an operand was broadcast. */
function undoBatch(
  backward: Backward,
  product: string,
  { value, other }: { readonly value: string; readonly other: string },
): string {
  const [dims, otherDims] = [value, other].map((name) => backward.dimsOf(name)?.slice(0, -2))
  const isSame =
    dims?.length === otherDims?.length &&
    dims?.every(({ size }, i) => size.equals(otherDims?.[i]?.size ?? size))
  if (dims && otherDims && isSame) return product
  // The product has the batch of both operands; the operand's own matrix axes are the last two of either.
  const full = Math.max(dims?.length ?? 0, otherDims?.length ?? 0)
  const axes = Array.from({ length: full }, (_, i) => i).filter((i) => {
    const own = dims?.[i - full + (dims?.length ?? 0)]
    const theirs = otherDims?.[i - full + (otherDims?.length ?? 0)]
    return own === undefined || (own.size.value === 1 && theirs?.size.value !== 1)
  })
  const isUncertain = dims?.some(({ size }, i) => {
    const theirs = otherDims?.[i - dims.length + (otherDims?.length ?? 0)]
    return (
      size.value === undefined && theirs !== undefined && theirs.size.value !== 1 && !size.equals(theirs.size)
    )
  })
  if (isUncertain) return backward.sumToShape(product, value)
  return axes.length === 0 ? product : backward.reshapeLike(backward.sum(product, axes, true), value)
}

/** A product with a vector, as one with a matrix of one row or column. */
function vectorProduct(call: RuleCall, rankA: number, rankB: number): readonly (string | undefined)[] {
  const { inputs, needs, backward, gradient } = call
  const [a, b] = inputs as [string, string]
  const row = rankA === 1 ? backward.op('Unsqueeze', [a, backward.integers([0])]) : a
  const column = rankB === 1 ? backward.op('Unsqueeze', [b, backward.integers([1])]) : b
  const missing = [rankA === 1 ? [-2] : [], rankB === 1 ? [-1] : []].flat()
  const full = backward.op('Unsqueeze', [gradient, backward.integers(missing)])
  const [matrixA, matrixB] = [Math.max(rankA, 2), Math.max(rankB, 2)]
  const gradientA = () => backward.op('MatMul', [full, backward.transposeMatrix(column, matrixB)])
  const gradientB = () => backward.op('MatMul', [backward.transposeMatrix(row, matrixA), full])
  return [
    needs(0) ? backward.reshapeLike(backward.sumToShape(gradientA(), row), a) : undefined,
    needs(1) ? backward.reshapeLike(backward.sumToShape(gradientB(), column), b) : undefined,
  ]
}

function fusedMatMul(call: RuleCall): readonly (string | undefined)[] {
  const { node } = call
  const flag = (name: string) => integerOf(node, name, 0) !== 0
  if (flag('transBatchA') || flag('transBatchB')) throw unsupportedForm(call, 'transposes its batch axes')
  return matMul(call, { transA: flag('transA'), transB: flag('transB'), alpha: floatOf(node, 'alpha', 1) })
}

/** Y = α·op(A)·op(B) + β·C */
function gemm(call: RuleCall): readonly (string | undefined)[] {
  const { node, inputs, outputs, needs, gradient, backward } = call
  const [a, b, c = ''] = inputs as [string, string, string?]
  const [transA, transB] = ['transA', 'transB'].map((name) => integerOf(node, name, 0) !== 0)
  const alpha = { alpha: { float: floatOf(node, 'alpha', 1) } }
  const product = (left: string, right: string, transLeft: boolean, transRight: boolean) =>
    backward.op('Gemm', [left, right], {
      ...alpha,
      transA: { int: transLeft ? 1 : 0 },
      transB: { int: transRight ? 1 : 0 },
    })
  const gradientA = () => (transA ? product(b, gradient, transB, true) : product(gradient, b, false, !transB))
  const gradientB = () => (transB ? product(gradient, a, true, transA) : product(a, gradient, !transA, false))
  const gradientC = () =>
    backward.undoBroadcast(backward.scale(gradient, floatOf(node, 'beta', 1), outputs[0]), outputs[0], c)
  return [
    needs(0) ? gradientA() : undefined,
    needs(1) ? gradientB() : undefined,
    needs(2) ? gradientC() : undefined,
  ]
}

/** The gradient of an operand is an `Einsum` too: of the gradient and the other operands. */
function einsum(call: RuleCall): readonly (string | undefined)[] {
  const { node, inputs, needs, gradient, backward } = call
  const text = node.attribute('equation')?.string ?? ''
  const ranks = inputs.map((input) => (text.includes('.') ? backward.rankOf(input, node) : undefined))
  const equation = readEquation(text, ranks)
  if (!equation) throw unsupportedForm(call, `has the equation ${JSON.stringify(text)}`)
  const { terms, result: right } = equation
  return terms.map((term, i) => {
    if (!needs(i)) return undefined
    if (new Set(term).size !== term.length) throw unsupportedForm(call, `reads a diagonal (${term})`)
    const others = terms.filter((_, k) => k !== i)
    const available = new Set([...right, ...others.join('')])
    const kept = [...term].filter((letter) => available.has(letter)).join('')
    const operands = [gradient, ...inputs.filter((_, k) => k !== i)]
    const result = backward.op('Einsum', operands, {
      equation: { string: `${[right, ...others].join(',')}->${kept}` },
    })
    const isCertain = haveEqualSizes(call, terms, term)
    if (kept === term && isCertain) return result
    // Along axes that no other operand has, or only with size 1, the gradient is the same for each index.
    const missing = [...term].flatMap((letter, axis) => (available.has(letter) ? [] : [axis]))
    const full =
      missing.length === 0 ? result : backward.op('Unsqueeze', [result, backward.integers(missing)])
    const expanded = backward.op('Expand', [full, backward.shapeOf(inputs[i])])
    return isCertain ? expanded : backward.sumToShape(expanded, inputs[i])
  })
}

/** Whether the axes of an operand of an `Einsum` certainly have the same sizes in the others: runtimes broadcast axes of size 1. */
function haveEqualSizes({ inputs, backward }: RuleCall, terms: readonly string[], term: string): boolean {
  return [...term].every((letter) => {
    const [first, ...others] = terms.flatMap((one, i) =>
      one.includes(letter) ? [backward.dimsOf(inputs[i])?.[one.indexOf(letter)]?.size] : [],
    )
    return others.every((size) => first !== undefined && size?.equals(first))
  })
}
