/** The numbers of one adapter that are trained: its coefficients, and the weights and biases of the layers that it replaces. */
import {
  Adapter,
  createLayer,
  encodeFloats,
  entriesDigest,
  type Tensor as StoredTensor,
  savedTensor,
} from '@fourierft/core'
import type { InferenceSession, Tensor } from 'onnxruntime-common'
import type { ReplacedModule, SessionAdapter } from '../session-adapter.js'
import { transpose } from '../transpose.js'
import type { TrainingSession } from './training-session.js'

/** One vector of trained numbers. */
interface Parameter {
  /** The input of the training graph. */
  readonly input: string
  readonly dims: readonly number[]
  /** In the adapter's own order and scale. */
  readonly values: Float32Array
  /** Writes the input's numbers. */
  readonly encode: (values: Float32Array) => Float32Array
  /** Gives ∂L/∂values from the gradient of the input. */
  readonly decode: (gradient: Float32Array) => Float32Array
}

export class Parameters {
  /** Coefficients of the branches. */
  readonly coefficients: readonly Parameter[]
  /** Weights and biases of replaced layers. */
  readonly weights: readonly Parameter[]
  #adapter: SessionAdapter
  /** The adapter that `adapter()` writes trained numbers into. */
  #source: Adapter
  readonly #training: TrainingSession

  constructor(adapter: SessionAdapter, training: TrainingSession) {
    this.#adapter = adapter
    this.#source = adapter.source
    this.#training = training
    const { inputs } = training
    this.coefficients = Array.from(adapter.layers.values(), ({ name, coefficients, entries, scaling }) => ({
      input: inputs.coefficients.get(name) as string,
      dims: [1, entries.n],
      values: Float32Array.from(coefficients),
      // The graph reads α·c, so ∂L/∂c = α·∂L/∂(α·c).
      encode: (values) => values.map((value) => scaling * value),
      decode: (gradient) => gradient.map((value) => scaling * value),
    }))
    this.weights = Array.from(adapter.replacedModules.values(), (module) => this.#weightsOf(module)).flat()
  }

  #weightsOf({ module, inFeatures, weight, bias }: ReplacedModule): Parameter[] {
    const names = this.#training.inputs.weights.get(module)
    if (!names) return []
    const outFeatures = weight.length / inFeatures
    const ofWeight = {
      input: names.weight,
      dims: [1, inFeatures, outFeatures],
      values: Float32Array.from(weight),
      encode: (values: Float32Array) => transpose(values, outFeatures, inFeatures),
      decode: (gradient: Float32Array) => transpose(gradient, inFeatures, outFeatures),
    }
    if (names.bias === undefined) return [ofWeight]
    const values = bias ? Float32Array.from(bias) : new Float32Array(outFeatures)
    // A runtime in a worker takes the memory of its inputs.
    const encode = (numbers: Float32Array) => numbers.slice()
    return [
      ofWeight,
      { input: names.bias, dims: [1, outFeatures], values, encode, decode: (gradient) => gradient },
    ]
  }

  get all(): readonly Parameter[] {
    return [...this.coefficients, ...this.weights]
  }

  /** Identifies the adapted layers, their entries and their scaling. */
  fingerprint(): string {
    const { layers, replacedModules } = this.#adapter
    const ofLayers = Array.from(layers.values(), ({ name, shape, entries, scaling }) =>
      [name, shape.join('x'), entriesDigest(entries), scaling].join(' '),
    )
    const ofModules = Array.from(
      replacedModules.values(),
      ({ module, weight }) => `${module} ${weight.length}`,
    )
    return [...ofLayers, ...ofModules].join('; ')
  }

  /**
   * Takes over the numbers of an adapter.
   *
   * @returns whether it has the same layers, entries and scaling; if not, nothing changes
   */
  read(adapter: SessionAdapter): boolean {
    if (adapter === this.#adapter) return true
    const other = new Parameters(adapter, this.#training)
    if (other.fingerprint() !== this.fingerprint()) return false
    this.#adapter = adapter
    this.#source = adapter.source
    const values = other.all
    for (const [i, parameter] of this.all.entries()) parameter.values.set(values[i].values)
    return true
  }

  /** The inputs of the adapter, with the numbers as they are now. */
  feeds(): Record<string, Tensor> {
    const { Tensor, inputs } = this.#training
    const feeds: Record<string, Tensor> = {}
    for (const rows of [inputs.rows, ...Array.from(inputs.weights.values(), (names) => names.rows)])
      feeds[rows] = new Tensor('int64', BigInt64Array.of(0n), [1])
    for (const { input, dims, values, encode } of this.all)
      feeds[input] = new Tensor('float32', encode(values), dims)
    return feeds
  }

  /** ∂L/∂values of each vector, in the order of `all`; zeros for those that do not affect the loss. */
  gradients(results: InferenceSession.ReturnType): Float32Array[] {
    return this.all.map(({ input, values, decode }) => {
      const output = this.#training.graph.gradients.get(input)
      const gradient = output === undefined ? undefined : results[output]
      return gradient ? decode(gradient.data as Float32Array) : new Float32Array(values.length)
    })
  }

  /** Makes the adapter with the numbers as they are now. */
  adapter(): SessionAdapter {
    const { name, layers, replacedModules, replaces } = this.#adapter
    const source = this.#source
    const values = new Map(this.all.map(({ input, values }) => [input, values.slice()]))
    const { inputs } = this.#training
    const newLayers = new Map(
      Array.from(layers, ([key, layer]) => {
        const coefficients = values.get(inputs.coefficients.get(layer.name) as string) as Float32Array
        return [key, createLayer({ ...layer, coefficients })] as const
      }),
    )
    const newModules = new Map(
      Array.from(replacedModules, ([key, replaced]) => {
        const names = inputs.weights.get(replaced.module)
        const weight = names && values.get(names.weight)
        const bias = names?.bias === undefined ? undefined : values.get(names.bias)
        return [key, { ...replaced, ...(weight && { weight }), ...(bias && { bias }) }] as const
      }),
    )
    let trained: Adapter | undefined
    this.#adapter = {
      name,
      replaces,
      layers: newLayers,
      replacedModules: newModules,
      get source() {
        trained ??= withValues(source, newLayers, newModules)
        return trained
      },
    }
    return this.#adapter
  }
}

/** The adapter of the file with trained numbers. */
function withValues(
  source: Adapter,
  layers: SessionAdapter['layers'],
  modules: SessionAdapter['replacedModules'],
): Adapter {
  const coefficients = Object.fromEntries(
    Array.from(layers.values(), (layer) => [layer.name, layer.coefficients]),
  )
  const trained = source.withCoefficients(coefficients)
  const savedTensors = new Map<string, StoredTensor>(trained.savedTensors)
  const store = (name: string, values: Float32Array) => {
    const stored = savedTensors.get(name)
    if (stored)
      savedTensors.set(name, { dtype: 'F32', shape: stored.shape, bytes: encodeFloats(values, 'F32') })
  }
  for (const { module, weight, bias } of modules.values()) {
    store(savedTensor(module, 'weight'), Float32Array.from(weight))
    if (bias) store(savedTensor(module, 'bias'), Float32Array.from(bias))
  }
  const { config, modules: adapted, baseTensors, ignoredTensors, metadata } = trained
  return new Adapter({ config, modules: adapted, savedTensors, baseTensors, ignoredTensors, metadata })
}
