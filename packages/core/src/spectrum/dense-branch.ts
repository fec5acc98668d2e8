/** The branch by ΔW itself, strategy `dense`: ΔW is formed in float64 for the call, then a matrix product; for tiny layers the fastest. */
import type { FloatArray, Layer } from '../adapter/layer.js'
import type { Batch } from './batch.js'
import { addScaled } from './branch.js'
import { addDelta, deltaAdjoint } from './delta.js'
import type { BranchGradients } from './linear.js'
import { addProduct, type MatrixView } from './matrix-product.js'

export function addDenseForward(layers: readonly Layer[], batch: Batch, x: FloatArray, y: FloatArray): void {
  const { d1, d2 } = batch
  const weight = new Float64Array(d1 * d2)
  for (const { members, tokens } of denseSets(layers, batch)) {
    weight.fill(0)
    for (const a of members) addDelta(layers[a], weight)
    const part = new Float64Array(tokens.length * d1)
    const transposed = { data: weight, rowStride: 1, columnStride: d2 }
    addProduct(tokens.length, d1, d2, rowMajor(pickRows(x, d2, tokens), d2), transposed, part)
    addRows(y, d1, tokens, part)
  }
}

export function addDenseBackward(
  layers: readonly Layer[],
  batch: Batch,
  x: FloatArray,
  gradY: FloatArray,
  gradients: BranchGradients,
): void {
  const { d1, d2 } = batch
  const matrix = new Float64Array(d1 * d2)
  for (const { members, tokens } of denseSets(layers, batch)) {
    const inputs = pickRows(x, d2, tokens)
    const outputGradients = pickRows(gradY, d1, tokens)
    if (gradients.x !== undefined) {
      matrix.fill(0)
      for (const a of members) addDelta(layers[a], matrix)
      const part = new Float64Array(tokens.length * d2)
      addProduct(tokens.length, d2, d1, rowMajor(outputGradients, d1), rowMajor(matrix, d2), part)
      addRows(gradients.x, d2, tokens, part)
    }
    // ∂L/∂ΔW = gradYᵀ·x, then its adjoint transform at the entries.
    matrix.fill(0)
    const transposed = { data: outputGradients, rowStride: 1, columnStride: d1 }
    addProduct(d1, d2, tokens.length, transposed, rowMajor(inputs, d2), matrix)
    for (const a of members) {
      const { entries, scaling } = layers[a]
      addScaled(gradients.coefficients[a], deltaAdjoint(entries, matrix), scaling)
    }
  }
}

/** Layers with the tokens they act on: one set of all, or one for each layer that `rows` names. */
function denseSets(
  layers: readonly Layer[],
  { tokens, rows }: Batch,
): { members: readonly number[]; tokens: Int32Array }[] {
  const all = Int32Array.from({ length: tokens }, (_, t) => t)
  if (rows === undefined) return tokens === 0 ? [] : [{ members: [...layers.keys()], tokens: all }]
  return layers
    .map((_, a) => ({ members: [a], tokens: all.filter((t) => rows[t] === a) }))
    .filter((set) => set.tokens.length > 0)
}

function rowMajor(data: FloatArray, width: number): MatrixView {
  return { data, rowStride: width, columnStride: 1 }
}

function pickRows(from: FloatArray, width: number, tokens: Int32Array): Float64Array {
  const picked = new Float64Array(tokens.length * width)
  tokens.forEach((t, i) => {
    picked.set(from.subarray(t * width, (t + 1) * width), i * width)
  })
  return picked
}

function addRows(to: FloatArray, width: number, tokens: Int32Array, part: Float64Array): void {
  tokens.forEach((t, i) => {
    for (let p = 0; p < width; p++) to[t * width + p] += part[i * width + p]
  })
}
