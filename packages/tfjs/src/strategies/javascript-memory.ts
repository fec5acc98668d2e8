/**
 * `spectral` and `dense` on backends whose tensors are in JavaScript's memory: `core`'s transforms read and write them. On these backends,
 * real FFTs of the tokens cost a fraction of the dense product; the many small products of the portable form suit a GPU.
 */
import { addBackward, addForward, delta, deltaAdjoint, type Entries, type Layer } from '@fourierft/core'
import { getBackend, type Tensor, type Tensor2D, tensor, tensor2d } from '@tensorflow/tfjs-core'
import { withGradient } from '../ops/with-gradient.js'
import type { StrategyInput } from './strategy-function.js'

/** Returns whether reading a tensor of the current backend costs at most a copy, and no wait for a device. */
export function keepsTensorsInJavaScript(): boolean {
  return ['cpu', 'wasm'].includes(getBackend())
}

/** Computes `spectral` with the FFTs of `core`. */
export function javaScriptSpectral({ x, c, rows, entries }: StrategyInput): Tensor2D {
  const [d1, d2] = entries.shape
  const tokens = x.shape[0]
  const options = { strategy: 'spectral', ...(rows && { rows: Int32Array.from(rows) }) } as const
  return withGradient(
    [x, c],
    () => {
      const y = new Float32Array(tokens * d1)
      addForward(layersOf(entries, numbers(c)), numbers(x), y, options)
      return { value: tensor2d(y, [tokens, d1]), saved: [x, c] }
    },
    (gradient, saved) => {
      const [x, c] = saved as [Tensor, Tensor]
      const gradX = new Float32Array(tokens * d2)
      const gradC = new Float32Array(c.size)
      const coefficients = Array.from({ length: c.size / entries.n }, (_, a) =>
        gradC.subarray(a * entries.n, (a + 1) * entries.n),
      )
      addBackward(
        layersOf(entries, numbers(c)),
        numbers(x),
        numbers(gradient),
        { coefficients, x: gradX },
        options,
      )
      return [tensor(gradX, x.shape), tensor(gradC, c.shape)]
    },
  ) as Tensor2D
}

/**
 * Computes ΔWᵀ `[d2, d1]` from `c` `[n]`.
 *
 * @param c coefficients times `α/(d1·d2)`
 */
export function javaScriptKernel(c: Tensor, entries: Entries): Tensor2D {
  const transposed = transposedEntries(entries)
  const [d1, d2] = entries.shape
  return withGradient(
    [c],
    () => {
      const [layer] = layersOf(transposed, numbers(c)) as [Layer]
      return { value: tensor2d(delta(layer), [d2, d1]) }
    },
    (gradient) => {
      const byEntry = deltaAdjoint(transposed, Float64Array.from(numbers(gradient)))
      // `c` is already divided by d1·d2; this factor cancels the division in `deltaAdjoint`.
      return [
        tensor(
          Float32Array.from(byEntry, (value) => value * d1 * d2),
          c.shape,
        ),
      ]
    },
  ) as Tensor2D
}

/**
 * Creates one layer for each row of coefficients. The coefficients are already divided by `d1·d2`; the layer's scaling cancels `core`'s own
 * division.
 */
function layersOf(entries: Entries, coefficients: Float32Array): Layer[] {
  const { n, shape } = entries
  return Array.from({ length: coefficients.length / n }, (_, a) => ({
    name: `row ${a}`,
    shape,
    entries,
    coefficients: coefficients.subarray(a * n, (a + 1) * n),
    scaling: shape[0] * shape[1],
  }))
}

const transposedOf = new WeakMap<Entries, Entries>()

function transposedEntries(entries: Entries): Entries {
  const cached = transposedOf.get(entries)
  if (cached) return cached
  const { shape, rows, columns } = entries
  const transposed = { ...entries, shape: [shape[1], shape[0]] as const, rows: columns, columns: rows }
  transposedOf.set(entries, transposed)
  return transposed
}

function numbers(values: Tensor): Float32Array {
  return values.dataSync() as Float32Array
}
