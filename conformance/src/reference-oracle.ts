/** The first oracle: computes `y = (W + Σ ΔW) x + b` and its gradients in float64, with `core`'s reference and plain sums. */
import {
  createLayer,
  type FloatArray,
  type Layer,
  referenceBackward,
  referenceForward,
  uniformEntries,
} from '@fourierft/core'
import { seededValues } from './seeded-values.js'
import type { LayerSpec } from './vectors.js'

/** Makes the layer that `spec` describes. */
export function layerOf(spec: LayerSpec, name = `layer${spec.coefficientsSeed}`): Layer {
  const { shape, n, seed, scaling } = spec
  const entries = uniformEntries({ shape, n, seed })
  return createLayer({ name, shape, entries, coefficients: seededValues(spec.coefficientsSeed, n), scaling })
}

/** Returns `y`, of shape `[T, d1]`. */
export function oracleForward(
  weight: FloatArray,
  bias: FloatArray | null,
  layers: readonly Layer[],
  x: FloatArray,
  rows?: Int32Array,
): Float64Array {
  const { d1, d2, tokens } = sizes(weight, layers, x)
  const y = new Float64Array(tokens * d1)
  for (let t = 0; t < tokens; t++) {
    for (let p = 0; p < d1; p++) {
      let sum = bias === null ? 0 : bias[p]
      for (let q = 0; q < d2; q++) sum += weight[p * d2 + q] * x[t * d2 + q]
      y[t * d1 + p] = sum
    }
  }
  return referenceForward(layers, x, y, rows && { rows })
}

export interface OracleGradients {
  readonly coefficients: Float64Array[]
  readonly x: Float64Array
}

/** Returns the gradients of `Σ gradY · y` through both the weight and the adapters. */
export function oracleBackward(
  weight: FloatArray,
  layers: readonly Layer[],
  x: FloatArray,
  gradY: FloatArray,
  rows?: Int32Array,
): OracleGradients {
  const { d1, d2, tokens } = sizes(weight, layers, x)
  const gradients = referenceBackward(layers, x, gradY, rows && { rows })
  for (let t = 0; t < tokens; t++) {
    for (let p = 0; p < d1; p++) {
      const g = gradY[t * d1 + p]
      for (let q = 0; q < d2; q++) {
        const i = t * d2 + q
        gradients.x[i] = gradients.x[i] + g * weight[p * d2 + q]
      }
    }
  }
  return gradients
}

function sizes(weight: FloatArray, layers: readonly Layer[], x: FloatArray) {
  const d2 = layers[0]?.shape[1] ?? 0
  return { d1: weight.length / d2, d2, tokens: x.length / d2 }
}
