/**
 * The float64 oracle behind the seam: slow, and as plain as a backend can be. It shows what a backend has to do, is a second
 * implementation that has to pass every level, and the ground that the mutants grow on. Large layers take it minutes: run it `quick`.
 */
import {
  type AdaptedLinear,
  type ApplyOptions,
  type Backend,
  createLayer,
  FourierFTError,
  type Layer,
  type ReferenceGradients,
  referenceBackward,
  referenceDelta,
  referenceForward,
} from '@fourierft/core'

/** What can be wrong about the method itself; each replaced function makes another mutant. */
export interface Mathematics {
  delta(layer: Layer): Float64Array
  /** `y0 + Σ Δy` */
  forward(layers: readonly Layer[], x: Float32Array, y0: Float64Array, rows?: Int32Array): Float64Array
  /** Of the adapters alone. */
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

/** The float64 reference as a backend: slow, and right by construction; for mutants and for comparing with. */
export function referenceBackend(changed: Partial<Mathematics> = {}): Backend {
  const mathematics = { ...REFERENCE, ...changed }
  let live = 0
  return {
    name: 'reference',
    device: 'cpu',
    versions: {},
    strategies: ['merge', 'factored'],
    async delta(layer) {
      return mathematics.delta(createLayer(layer))
    },
    async linear(weight, bias, layers) {
      const linear = referenceLinear(mathematics, weight, bias, layers, () => live--)
      live++
      return linear
    },
    resources: () => live,
  }
}

function referenceLinear(
  mathematics: Mathematics,
  givenWeight: Float32Array,
  givenBias: Float32Array | null,
  givenLayers: readonly Layer[],
  onDispose: () => void,
): AdaptedLinear {
  let layers = givenLayers.map(copyLayer)
  const { d1, d2 } = checkShapes(givenWeight, givenBias, layers)
  const weight = Float64Array.from(givenWeight)
  const bias = givenBias && Float64Array.from(givenBias)
  let merged: Float64Array | undefined
  let enabled = true
  let disposed = false

  const checkAlive = () => {
    if (disposed) throw new FourierFTError('INVALID_STATE', 'the layer was disposed; make a new one')
  }
  const current = () => merged ?? weight
  const active = () => (enabled && merged === undefined && layers.length > 0 ? layers : undefined)

  return {
    async forward(x, options = {}) {
      checkAlive()
      const tokens = checkTokens(x, d2, layers, options)
      const w = current()
      const y = new Float64Array(tokens * d1)
      for (let t = 0; t < tokens; t++) {
        for (let p = 0; p < d1; p++) {
          let sum = bias?.[p] ?? 0
          for (let q = 0; q < d2; q++) sum += w[p * d2 + q] * x[t * d2 + q]
          y[t * d1 + p] = sum
        }
      }
      const adapters = active()
      return adapters === undefined ? y : mathematics.forward(adapters, x, y, options.rows)
    },
    async backward(x, gradY, options = {}) {
      checkAlive()
      const tokens = checkTokens(x, d2, layers, options)
      if (gradY.length !== tokens * d1) throw mismatch('gradY', `${tokens} × ${d1} numbers`, gradY.length)
      const adapters = active()
      const branch =
        adapters === undefined
          ? {
              coefficients: layers.map(({ entries }) => new Float64Array(entries.n)),
              x: new Float64Array(x.length),
            }
          : mathematics.backward(adapters, x, gradY, options.rows)
      const w = current()
      for (let t = 0; t < tokens; t++) {
        for (let p = 0; p < d1; p++) {
          const g = gradY[t * d1 + p]
          for (let q = 0; q < d2; q++) {
            const i = t * d2 + q
            branch.x[i] = branch.x[i] + g * w[p * d2 + q]
          }
        }
      }
      return branch
    },
    async setCoefficients(coefficients) {
      checkAlive()
      if (coefficients.length !== layers.length) {
        throw mismatch('coefficients', `${layers.length} arrays, one for each layer`, coefficients.length)
      }
      layers = layers.map((layer, i) =>
        copyLayer({ ...layer, coefficients: coefficients[i] ?? new Float32Array() }),
      )
    },
    async disable() {
      checkAlive()
      enabled = false
    },
    async enable() {
      checkAlive()
      enabled = true
    },
    async merge() {
      checkAlive()
      if (merged) throw new FourierFTError('INVALID_STATE', 'the layer is merged already; unmerge it first')
      merged = weight.slice()
      for (const layer of layers) {
        const delta = mathematics.delta(layer)
        for (let i = 0; i < delta.length; i++) merged[i] = merged[i] + delta[i]
      }
    },
    async unmerge() {
      checkAlive()
      if (!merged) throw new FourierFTError('INVALID_STATE', 'the layer is not merged; merge it first')
      merged = undefined
    },
    async weight() {
      checkAlive()
      return current().slice()
    },
    async dispose() {
      checkAlive()
      disposed = true
      onDispose()
    },
  }
}

/** Checked by `createLayer`; the caller may go on writing into its own coefficients. */
function copyLayer(layer: Layer): Layer {
  return createLayer({ ...layer, coefficients: Float64Array.from(layer.coefficients) })
}

/** Without layers the bias tells the shape. */
function checkShapes(weight: Float32Array, bias: Float32Array | null, layers: readonly Layer[]) {
  const [d1, d2] = layers[0]?.shape ?? [
    bias?.length ?? Number.NaN,
    weight.length / (bias?.length ?? Number.NaN),
  ]
  for (const { name, shape } of layers) {
    if (shape[0] !== d1 || shape[1] !== d2)
      throw mismatch(`layer '${name}'`, `shape [${d1}, ${d2}]`, `[${shape}]`)
  }
  if (!(weight.length === d1 * d2 && Number.isInteger(d2))) {
    throw mismatch('weight', `${d1} × ${d2} numbers`, weight.length)
  }
  if (bias !== null && bias.length !== d1) throw mismatch('bias', `${d1} numbers`, bias.length)
  return { d1, d2 }
}

function checkTokens(
  x: Float32Array,
  d2: number,
  layers: readonly Layer[],
  { rows, strategy = 'auto' }: ApplyOptions,
): number {
  const tokens = x.length / d2
  if (!Number.isInteger(tokens)) throw mismatch('x', `rows of ${d2} numbers`, x.length)
  if (strategy !== 'auto' && strategy !== 'factored') {
    throw new FourierFTError('UNSUPPORTED', `strategy: expected 'auto' or 'factored'; received '${strategy}'`)
  }
  if (rows === undefined) return tokens
  if (rows.length !== tokens) throw mismatch('rows', `${tokens} indices, one for each row of x`, rows.length)
  const wrong = rows.find((row) => row < -1 || row >= layers.length)
  if (wrong !== undefined) {
    throw new FourierFTError('INVALID_OPTION', `rows: expected −1 … ${layers.length - 1}; received ${wrong}`)
  }
  return tokens
}

function mismatch(what: string, expected: string, received: number | string): FourierFTError {
  return new FourierFTError('SHAPE_MISMATCH', `${what}: expected ${expected}; received ${received}`, {
    expected,
    received,
  })
}
