/**
 * Backends with one fault each, which test the suite. Each has to fail at the levels that it names, and to pass the others.
 */
import {
  type AdapterBytes,
  type Entries,
  explicitEntries,
  type FloatArray,
  FourierFTError,
  type Layer,
  referenceBackward,
  referenceForward,
} from '@fourierft/core'
import { type AdaptedLinear, type Backend, coreBackend } from '@fourierft/core/conformance'
import { readAgain } from './core-round-trip.js'
import { referenceBackend } from './reference-backend.js'
import type { LevelNumber } from './report.js'

export interface Mutant {
  readonly name: string
  readonly failsAt: readonly LevelNumber[]
  create(): Backend
}

/** Makes the correct backend, which most mutants change. */
export function cleanBackend(): Backend {
  return { ...coreBackend(), roundTrip: readAgain }
}

export const MUTANTS: readonly Mutant[] = [
  // Mathematics.
  {
    name: 'entries transposed if the weight is square',
    failsAt: [1, 3, 4, 5],
    create: () =>
      mutateLayers((layer) =>
        isSquare(layer) ? withEntries(layer, ({ rows, columns }) => [columns, rows]) : layer,
      ),
  },
  {
    name: 'frequencies of the input mirrored (−k instead of k)',
    failsAt: [1, 3, 4, 5, 6, 7],
    create: () =>
      mutateLayers((layer) =>
        withEntries(layer, ({ rows, columns, shape }) => [
          rows,
          columns.map((k) => (shape[1] - k) % shape[1]),
        ]),
      ),
  },
  {
    name: 'the factor 1/(d1·d2) dropped',
    failsAt: [3, 4, 5, 6, 7],
    create: () =>
      mutateLayers((layer) => ({ ...layer, scaling: layer.scaling * layer.shape[0] * layer.shape[1] })),
  },
  {
    name: 'sin instead of cos',
    failsAt: [1, 3, 4, 5, 6, 7],
    create: () => referenceBackend(sines()),
  },
  {
    name: 'one entry missing',
    failsAt: [1, 3, 4, 5, 6, 7],
    create: () => mutateLayers((layer) => withCoefficients(layer, (c) => c.with(c.length - 1, 0))),
  },
  {
    name: 'coefficients in the wrong order',
    failsAt: [3, 4, 5, 6, 7],
    create: () => mutateLayers((layer) => withCoefficients(layer, (c) => c.toReversed())),
  },
  {
    name: 'a bias added twice',
    failsAt: [4, 6, 7],
    create: () =>
      mutateLinear((linear, { bias }) => ({
        async forward(x, options) {
          const y = (await linear.forward(x, options)).slice()
          return bias === null ? y : y.map((value, i) => value + bias[i % bias.length])
        },
      })),
  },
  {
    name: 'the adapter of each row ignored',
    failsAt: [4, 5, 8],
    create: () =>
      mutateLinear((linear) => ({
        forward: (x, { rows: _, ...options } = {}) => linear.forward(x, options),
        backward: (x, gradY, { rows: _, ...options } = {}) => linear.backward(x, gradY, options),
      })),
  },
  {
    name: 'a fault in one strategy: factored adds only the first adapter',
    failsAt: [4],
    create: () =>
      mutateLinear((linear) => ({
        forward(x, options = {}) {
          if (options.strategy !== 'factored' || options.rows !== undefined) return linear.forward(x, options)
          return linear.forward(x, { ...options, rows: new Int32Array(x.length / widthOf(linear)) })
        },
      })),
  },
  {
    name: 'half precision: outputs rounded to 11 bits',
    failsAt: [3, 4, 5, 6],
    create: () => {
      const backend = mutateLinear((linear) => ({
        forward: async (x, options) => roundTo11Bits(await linear.forward(x, options)),
        async backward(x, gradY, options) {
          const gradients = await linear.backward(x, gradY, options)
          return {
            coefficients: gradients.coefficients.map(roundTo11Bits),
            x: roundTo11Bits(gradients.x),
          }
        },
      }))
      return { ...backend, delta: async (layer) => roundTo11Bits(await backend.delta(layer)) }
    },
  },

  // Gradients.
  {
    // AdamW cancels a constant factor of the gradient, so level 7 passes.
    name: 'α forgotten in the gradient',
    failsAt: [5],
    create: () =>
      mutateLinear((linear, { layers }) => ({
        async backward(x, gradY, options) {
          const gradients = await linear.backward(x, gradY, options)
          const coefficients = gradients.coefficients.map((c, a) =>
            c.map((g) => g / (layers[a]?.scaling ?? 1)),
          )
          return { ...gradients, coefficients }
        },
      })),
  },
  {
    name: '∂x of the untransposed adapter if the weight is square',
    failsAt: [5],
    create: () =>
      referenceBackend({
        backward(layers, x, gradY, rows) {
          const gradients = referenceBackward(layers, x, gradY, rows && { rows })
          const [first] = layers
          if (first === undefined || !isSquare(first)) return gradients
          return { ...gradients, x: referenceForward(layers, gradY, undefined, rows && { rows }) }
        },
      }),
  },
  {
    name: '∂x without the base weight',
    failsAt: [5],
    create: () =>
      mutateLinear((linear, { layers, weight, bias }, inner) => ({
        async backward(x, gradY, options) {
          const gradients = await linear.backward(x, gradY, options)
          const weightless = await inner.linear(new Float32Array(weight.length), bias, layers)
          const { x: gradX } = await weightless.backward(x, gradY, options)
          await weightless.dispose()
          return { ...gradients, x: gradX }
        },
      })),
  },
  {
    name: 'gradients of one pass added to those of the next',
    failsAt: [5, 7],
    create: () =>
      mutateLinear((linear) => {
        let sums: FloatArray[] | undefined
        return {
          async backward(x, gradY, options) {
            const gradients = await linear.backward(x, gradY, options)
            const earlier = sums
            const coefficients = gradients.coefficients.map((c, a) =>
              c.map((g, l) => g + (earlier?.[a]?.[l] ?? 0)),
            )
            sums = coefficients
            return { ...gradients, coefficients }
          },
        }
      }),
  },

  // Life cycle.
  {
    name: 'new coefficients ignored',
    failsAt: [4, 5, 7, 8],
    create: () => mutateLinear(() => ({ setCoefficients: async () => {} })),
  },
  {
    name: 'a merge that is not undone',
    failsAt: [6, 8],
    create: () => mutateLinear(() => ({ unmerge: async () => {} })),
  },
  {
    name: 'unmerge by subtraction',
    failsAt: [6],
    create: () =>
      mutateLinear((linear) => {
        let merged: FloatArray | undefined
        let remaining: FloatArray | undefined
        return {
          async unmerge() {
            merged = (await linear.weight()).slice()
            await linear.unmerge()
            const original = await linear.weight()
            remaining = Float32Array.from(original, (w, i) => {
              const sum = merged?.[i] ?? 0
              return sum - Math.fround(sum - w)
            })
          },
          weight: async () => remaining ?? linear.weight(),
        }
      }),
  },
  {
    name: 'disable without effect',
    failsAt: [6],
    create: () => mutateLinear((linear) => ({ disable: () => linear.enable() })),
  },
  {
    name: "merge into the caller's own array",
    failsAt: [6],
    create: () =>
      mutateLinear((linear, { weight }) => ({
        async merge() {
          await linear.merge()
          weight.set(await linear.weight())
        },
      })),
  },
  {
    name: 'a handle lost with each swap of coefficients',
    failsAt: [6],
    create: () => {
      let lost = 0
      const backend = mutateLinear((linear) => ({
        async setCoefficients(coefficients) {
          await linear.setCoefficients(coefficients)
          lost++
        },
      }))
      return { ...backend, resources: () => lost }
    },
  },
  {
    name: 'a handle lost with each layer',
    failsAt: [6],
    create: () => {
      let made = 0
      const backend = mutateLinear(() => {
        made++
        return {}
      })
      return { ...backend, resources: () => made }
    },
  },

  // Bad input.
  {
    name: 'NaN among new coefficients replaced by 0',
    failsAt: [8],
    create: () =>
      mutateLinear((linear) => ({
        setCoefficients: (coefficients) =>
          linear.setCoefficients(
            coefficients.map((c) => c.map((value) => (Number.isFinite(value) ? value : 0))),
          ),
      })),
  },
  {
    name: 'rejected coefficients set in part',
    failsAt: [8],
    create: () =>
      mutateLinear((linear, { layers }) => {
        let current = layers.map(({ coefficients }) => Float32Array.from(coefficients))
        return {
          async setCoefficients(coefficients) {
            const [first] = coefficients
            const partly = current.map((c, a) => (a === 0 && first?.length === c.length ? first : c))
            if (coefficients.length === current.length && first?.every(Number.isFinite)) {
              await linear.setCoefficients(partly)
            }
            await linear.setCoefficients(coefficients)
            current = coefficients.map((c) => c.slice())
          },
        }
      }),
  },
  {
    name: 'errors without their codes',
    failsAt: [8],
    create: () =>
      mutateLinear((linear) => ({
        async forward(x, options) {
          try {
            return await linear.forward(x, options)
          } catch (error) {
            throw new Error(FourierFTError.isInstance(error) ? error.message : String(error))
          }
        },
      })),
  },
  {
    name: 'a layer that still works after dispose',
    failsAt: [8],
    create: () => mutateLinear(() => ({ dispose: async () => {} }), { resources: () => 0 }),
  },

  // Files.
  {
    name: 'a file written with one bit changed',
    failsAt: [2],
    create: () =>
      mutateFiles(({ config, model }) => ({
        config,
        model: model.with(model.length - 1, (model.at(-1) ?? 0) ^ 1),
      })),
  },
  {
    name: 'a configuration written in another layout',
    failsAt: [2],
    create: () =>
      mutateFiles(({ config, model }) => ({
        config: new TextEncoder().encode(JSON.stringify(JSON.parse(new TextDecoder().decode(config)))),
        model,
      })),
  },
]

// ---- Functions that make mutants

interface LinearArguments {
  readonly weight: Float32Array
  readonly bias: Float32Array | null
  readonly layers: readonly Layer[]
}

/** Makes a backend that replaces every layer by `change(layer)`, also when its coefficients change. */
function mutateLayers(change: (layer: Layer) => Layer): Backend {
  const backend = cleanBackend()
  return {
    ...backend,
    delta: (layer) => backend.delta(changeValid(layer)),
    async linear(weight, bias, layers) {
      const linear = await backend.linear(weight, bias, layers.map(changeValid))
      return {
        ...linear,
        setCoefficients: (coefficients) =>
          linear.setCoefficients(
            coefficients.map((c, a) => {
              const layer = layers[a]
              if (layer === undefined || c.length !== layer.entries.n) return c
              return Float32Array.from(change({ ...layer, coefficients: c }).coefficients)
            }),
          ),
      }
    },
  }

  /** Leaves malformed layers unchanged, because these mutants check their arguments correctly. */
  function changeValid(layer: Layer): Layer {
    const { entries, coefficients, shape } = layer
    const valid =
      coefficients.length === entries.n && entries.shape[0] === shape[0] && entries.shape[1] === shape[1]
    return valid ? change(layer) : layer
  }
}

/** Makes a backend with faulty layers: `change` returns the faulty methods of an adapted layer. */
function mutateLinear(
  change: (linear: AdaptedLinear, args: LinearArguments, backend: Backend) => Partial<AdaptedLinear>,
  replaced: Partial<Backend> = {},
): Backend {
  const backend = cleanBackend()
  return {
    ...backend,
    async linear(weight, bias, layers) {
      const linear = await backend.linear(weight, bias, layers)
      widths.set(linear, layers[0]?.shape[1] ?? 1)
      return { ...linear, ...change(linear, { weight, bias, layers }, backend) }
    },
    ...replaced,
  }
}

const widths = new WeakMap<AdaptedLinear, number>()

function widthOf(linear: AdaptedLinear): number {
  return widths.get(linear) ?? 1
}

/** Makes a backend whose files are changed by `change` when it saves them. */
function mutateFiles(change: (files: AdapterBytes) => AdapterBytes): Backend {
  return { ...cleanBackend(), roundTrip: async (files) => change(await readAgain(files)) }
}

function isSquare({ shape }: Layer): boolean {
  return shape[0] === shape[1]
}

function withEntries(
  layer: Layer,
  change: (entries: Entries) => [rows: Uint32Array, columns: Uint32Array],
): Layer {
  const [rows, columns] = change(layer.entries)
  return { ...layer, entries: explicitEntries({ shape: layer.shape, rows, columns }) }
}

function withCoefficients(layer: Layer, change: (coefficients: Float32Array) => Float32Array): Layer {
  return { ...layer, coefficients: change(Float32Array.from(layer.coefficients)) }
}

function roundTo11Bits<Numbers extends FloatArray>(numbers: Numbers): Numbers {
  const rounded = numbers.slice() as Numbers
  for (let i = 0; i < rounded.length; i++) {
    const value = rounded[i]
    if (value === 0) continue
    const unit = 2 ** (Math.floor(Math.log2(Math.abs(value))) - 10)
    rounded[i] = Math.round(value / unit) * unit
  }
  return rounded
}

/** Replaces every cosine by a sine, in ΔW, forward and backward: consistent, and wrong. */
function sines() {
  const deltas = new WeakMap<Layer, Float64Array>()
  const delta = (layer: Layer) => {
    const result = deltas.get(layer) ?? makeDelta(layer)
    deltas.set(layer, result)
    return result
  }
  const makeDelta = ({ shape: [d1, d2], entries, coefficients, scaling }: Layer) => {
    const result = new Float64Array(d1 * d2)
    for (let p = 0; p < d1; p++) {
      for (let q = 0; q < d2; q++) {
        let sum = 0
        for (let l = 0; l < entries.n; l++) sum += coefficients[l] * basis(entries, l, p, q)
        result[p * d2 + q] = (scaling / (d1 * d2)) * sum
      }
    }
    return result
  }
  /** `sin(2π(p·j/d1 + q·k/d2))` from tables, because it is called millions of times. */
  const tables = new Map<number, Float64Array>()
  const tableOf = (size: number) => {
    const table =
      tables.get(size) ?? Float64Array.from({ length: size }, (_, m) => Math.sin((2 * Math.PI * m) / size))
    tables.set(size, table)
    return table
  }
  const basis = ({ shape: [d1, d2], rows, columns }: Entries, l: number, p: number, q: number) =>
    tableOf(d1 * d2)[(p * rows[l] * d2 + q * columns[l] * d1) % (d1 * d2)]
  const uses = (rows: Int32Array | undefined, t: number, index: number) =>
    rows === undefined || rows[t] === index
  return {
    delta,
    forward(layers: readonly Layer[], x: Float32Array, y0: Float64Array, rows?: Int32Array) {
      const y = y0.slice()
      layers.forEach((layer, index) => {
        const [d1, d2] = layer.shape
        const w = delta(layer)
        for (let t = 0; t * d2 < x.length; t++) {
          if (!uses(rows, t, index)) continue
          for (let i = 0; i < w.length; i++) {
            const target = t * d1 + Math.floor(i / d2)
            y[target] = y[target] + w[i] * x[t * d2 + (i % d2)]
          }
        }
      })
      return y
    },
    backward(layers: readonly Layer[], x: Float32Array, gradY: Float32Array, rows?: Int32Array) {
      const gradX = new Float64Array(x.length)
      const coefficients = layers.map((layer, index) => {
        const { entries, scaling } = layer
        const [d1, d2] = layer.shape
        const w = delta(layer)
        const gradW = new Float64Array(d1 * d2)
        for (let t = 0; t * d2 < x.length; t++) {
          if (!uses(rows, t, index)) continue
          for (let i = 0; i < w.length; i++) {
            const g = gradY[t * d1 + Math.floor(i / d2)]
            const position = t * d2 + (i % d2)
            gradX[position] = gradX[position] + g * w[i]
            gradW[i] = gradW[i] + g * x[position]
          }
        }
        return Float64Array.from({ length: entries.n }, (_, l) => {
          let sum = 0
          for (let i = 0; i < gradW.length; i++) {
            sum += gradW[i] * basis(entries, l, Math.floor(i / d2), i % d2)
          }
          return (scaling / (d1 * d2)) * sum
        })
      })
      return { coefficients, x: gradX }
    },
  }
}
