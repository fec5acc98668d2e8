/** Matrix products. */
import type { Dim, Dims } from '../dims.js'
import { readEquation } from '../einsum-equation.js'
import type { InferOutputs, KnownValue, OperatorCall, OperatorTable } from '../known-value.js'

export const MATRIX_PRODUCTS: OperatorTable = [
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
  // A branch: y = base + Δy.
  ['fourierft:FourierFT', ({ inputs: [, base] }) => (base ? [base] : [])],
]

function matMul(x: number, w: number): InferOutputs {
  return ({ node, inputs, sizes }) => {
    const { attributes } = node
    const [transA, transB] = ['transA', 'transB'].map((name) => Boolean(attributes.get(name)?.int))
    if (attributes.get('transBatchA')?.int || attributes.get('transBatchB')?.int) return []
    if (inputs[x]?.isBatchFirst && !transA && inputs[w]?.dims?.length === 2) return [{ isBatchFirst: true }]
    const a = transposed(inputs[x]?.dims, transA)
    const b = transposed(inputs[w]?.dims, transB)
    if (!a || !b || a.length === 0 || b.length === 0) return []
    const batch = sizes.broadcast([a.slice(0, -2), b.slice(0, -2)])
    if (!batch) return []
    const row = a.length > 1 ? a.slice(-2, -1) : []
    const column = b.length > 1 ? b.slice(-1) : []
    return [{ dims: [...batch, ...row, ...column] }]
  }
}

function transposed(dims: Dims | undefined, isTransposed = false): Dims | undefined {
  if (!dims || !isTransposed || dims.length < 2) return dims
  const [row, column] = dims.slice(-2) as [Dim, Dim]
  return [...dims.slice(0, -2), column, row]
}

function matMulNBits({ node, inputs: [x], sizes }: OperatorCall): readonly KnownValue[] {
  // `MatMulBnb4` has K output features if transB is 0.
  const { attributes } = node
  const features = Number(attributes.get(attributes.get('transB')?.int === 0n ? 'K' : 'N')?.int ?? 0)
  return x?.dims ? [{ dims: [...x.dims.slice(0, -1), sizes.number(features)] }] : []
}

function gemm({ node, inputs: [x, w] }: OperatorCall): readonly KnownValue[] {
  const a = transposed(x?.dims, Boolean(node.attribute('transA')?.int))
  const b = transposed(w?.dims, Boolean(node.attribute('transB')?.int))
  return a?.length === 2 && b?.length === 2 ? [{ dims: [a[0], b[1]] }] : []
}

function einsum({ node, inputs, sizes }: OperatorCall): readonly KnownValue[] {
  const ranks = inputs.map(({ dims }) => dims?.length)
  const equation = readEquation(node.attribute('equation')?.string, ranks)
  if (!equation) return []
  const axes = new Map<string, Dim>()
  for (const [i, term] of equation.terms.entries()) {
    const dims = inputs[i]?.dims
    if (!dims || term.length !== dims.length) return []
    for (const [j, letter] of [...term].entries()) {
      const known = axes.get(letter)
      const dim = dims[j]
      axes.set(letter, known ? sizes.broadcastAxis(known, dim) : dim)
    }
  }
  const dims = [...equation.result].map((letter) => axes.get(letter))
  return dims.every((dim) => dim !== undefined) ? [{ dims }] : []
}
