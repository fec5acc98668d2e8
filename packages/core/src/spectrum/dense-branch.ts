/** The strategy `dense`: forms ΔW in float64 for each call, then multiplies matrices. It is the fastest for tiny layers. */
import type { FloatArray, Layer } from '../adapter/layer.js'
import type { Batch } from './batch.js'
import type { BranchGradients } from './branch-gradients.js'
import { addDelta, deltaAdjoint } from './delta.js'
import { addScaled } from './entry-group.js'
import { addProduct, type MatrixView } from './matrix-product.js'

export function addDenseForward(layers: readonly Layer[], batch: Batch, x: FloatArray, y: FloatArray): void {
  const { d1, d2 } = batch
  const delta = new Float64Array(d1 * d2)
  for (const { layerIndices, tokens } of layerGroups(layers, batch)) {
    delta.fill(0)
    for (const index of layerIndices) addDelta(layers[index], delta)
    const outputs = new Float64Array(tokens.length * d1)
    const transposed = { data: delta, rowStride: 1, columnStride: d2 }
    addProduct(tokens.length, d1, d2, rowMajor(pickRows(x, d2, tokens), d2), transposed, outputs)
    addRows(y, d1, tokens, outputs)
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
  // One buffer for two matrices, because each is as large as the weight: first ΔW, then ∂L/∂ΔW.
  const delta = new Float64Array(d1 * d2)
  const deltaGradient = delta
  for (const { layerIndices, tokens } of layerGroups(layers, batch)) {
    const inputs = pickRows(x, d2, tokens)
    const outputGradients = pickRows(gradY, d1, tokens)
    if (gradients.x !== undefined) {
      delta.fill(0)
      for (const index of layerIndices) addDelta(layers[index], delta)
      const inputGradients = new Float64Array(tokens.length * d2)
      addProduct(tokens.length, d2, d1, rowMajor(outputGradients, d1), rowMajor(delta, d2), inputGradients)
      addRows(gradients.x, d2, tokens, inputGradients)
    }
    // ∂L/∂ΔW = gradYᵀ·x; deltaAdjoint turns it into the gradient of the coefficients.
    deltaGradient.fill(0)
    const transposed = { data: outputGradients, rowStride: 1, columnStride: d1 }
    addProduct(d1, d2, tokens.length, transposed, rowMajor(inputs, d2), deltaGradient)
    for (const index of layerIndices) {
      const { entries, scaling } = layers[index]
      addScaled(gradients.coefficients[index], deltaAdjoint(entries, deltaGradient), scaling)
    }
  }
}

/** Groups layers with the tokens that they apply to. Without `rows`: one group, all layers and all tokens. With `rows`: a group for each layer. */
function layerGroups(
  layers: readonly Layer[],
  { tokens, rows }: Batch,
): { layerIndices: readonly number[]; tokens: Int32Array }[] {
  const all = Int32Array.from({ length: tokens }, (_, t) => t)
  if (rows === undefined) return tokens === 0 ? [] : [{ layerIndices: [...layers.keys()], tokens: all }]
  return layers
    .map((_, index) => ({ layerIndices: [index], tokens: all.filter((t) => rows[t] === index) }))
    .filter((group) => group.tokens.length > 0)
}

function rowMajor(data: FloatArray, width: number): MatrixView {
  return { data, rowStride: width, columnStride: 1 }
}

function pickRows(source: FloatArray, width: number, tokens: Int32Array): Float64Array {
  const picked = new Float64Array(tokens.length * width)
  tokens.forEach((t, i) => {
    picked.set(source.subarray(t * width, (t + 1) * width), i * width)
  })
  return picked
}

function addRows(target: FloatArray, width: number, tokens: Int32Array, values: Float64Array): void {
  tokens.forEach((t, i) => {
    for (let p = 0; p < width; p++) target[t * width + p] += values[i * width + p]
  })
}
