/**
 * The float64 reference as a backend: slow, and as plain as a backend can be. It is an example, a second implementation that has to pass
 * every level except its gaps, and the base of most mutants of the mathematics. Large layers take minutes: run it with `quick`.
 */
import {
  type Layer,
  type ReferenceGradients,
  referenceBackward,
  referenceDelta,
  referenceForward,
} from '@fourierft/core'
import {
  type Backend,
  type BaseLayer,
  checkedBackend,
  type LinearFunctions,
} from '@fourierft/core/conformance'

/** The mathematics of FourierFT. A mutant replaces some of the functions. */
export interface Mathematics {
  delta(layer: Layer): Float64Array
  /** Returns `y0 + Σ Δy`. */
  forward(layers: readonly Layer[], x: Float32Array, y0: Float64Array, rows?: Int32Array): Float64Array
  /** Returns the gradients of the adapters, without those of the base weight. */
  backward(
    layers: readonly Layer[],
    x: Float32Array,
    gradY: Float32Array,
    rows?: Int32Array,
  ): ReferenceGradients
}

const REFERENCE: Mathematics = {
  delta: (layer) => referenceDelta(layer),
  forward: (layers, x, y0, rows) => referenceForward(layers, x, y0, rows && { rows }),
  backward: (layers, x, gradY, rows) => referenceBackward(layers, x, gradY, rows && { rows }),
}

/** Makes a backend of the float64 reference, or a mutant of it with some functions replaced. */
export function referenceBackend(replaced: Partial<Mathematics> = {}): Backend {
  const mathematics = { ...REFERENCE, ...replaced }
  let live = 0
  return checkedBackend({
    name: 'reference',
    device: 'cpu',
    versions: {},
    strategies: ['merge', 'factored'],
    delta: (layer) => mathematics.delta(layer),
    linear(base, layers) {
      live++
      return { ...referenceLinear(mathematics, base, layers), dispose: () => void live-- }
    },
    resources: () => live,
  })
}

function referenceLinear(
  mathematics: Mathematics,
  { weight, bias, shape: [d1, d2] }: BaseLayer,
  initialLayers: readonly Layer[],
): Omit<LinearFunctions, 'dispose'> {
  const original = Float64Array.from(weight)
  let layers = initialLayers
  let merged: Float64Array | undefined
  let enabled = true

  const currentWeight = () => merged ?? original
  const applied = () => (enabled && merged === undefined && layers.length > 0 ? layers : undefined)

  return {
    forward(x, { tokens, rows }) {
      const w = currentWeight()
      const y = new Float64Array(tokens * d1)
      for (let t = 0; t < tokens; t++) {
        for (let p = 0; p < d1; p++) {
          let sum = bias?.[p] ?? 0
          for (let q = 0; q < d2; q++) sum += w[p * d2 + q] * x[t * d2 + q]
          y[t * d1 + p] = sum
        }
      }
      const adapters = applied()
      return adapters === undefined ? y : mathematics.forward(adapters, x, y, rows)
    },
    backward(x, gradY, { tokens, rows }) {
      const adapters = applied()
      const gradients =
        adapters === undefined
          ? {
              coefficients: layers.map(({ entries }) => new Float64Array(entries.n)),
              x: new Float64Array(x.length),
            }
          : mathematics.backward(adapters, x, gradY, rows)
      const w = currentWeight()
      for (let t = 0; t < tokens; t++) {
        for (let p = 0; p < d1; p++) {
          const g = gradY[t * d1 + p]
          for (let q = 0; q < d2; q++) {
            const i = t * d2 + q
            gradients.x[i] = gradients.x[i] + g * w[p * d2 + q]
          }
        }
      }
      return gradients
    },
    setCoefficients(newLayers) {
      layers = newLayers
    },
    disable() {
      enabled = false
    },
    enable() {
      enabled = true
    },
    merge() {
      merged = original.slice()
      for (const layer of layers) {
        const delta = mathematics.delta(layer)
        for (let i = 0; i < delta.length; i++) merged[i] = merged[i] + delta[i]
      }
    },
    unmerge() {
      merged = undefined
    },
    weight: () => currentWeight().slice(),
  }
}
