/** Chooses the fastest strategy for a given size on the current backend. */
import { getBackend } from '@tensorflow/tfjs-core'
import { isSpectralExact } from '../ops/float16-scaling.js'
import { type Calibration, fastestStrategy } from './calibration.js'
import { hasNativeKernel } from './native.js'
import type { LinearSize, TfjsStrategy } from './strategy.js'
import { isTensorflowBackend, isTensorflowOnGpu } from './tensorflow-spectral.js'

/** The strategies that every backend has. */
const PORTABLE = ['dense', 'factored', 'spectral'] as const
type PortableStrategy = (typeof PORTABLE)[number]

/**
 * Nanoseconds of one multiply-add of the dense product, on backends whose tensors are in JavaScript's memory. Measured together with the
 * two rates below at d = 16 … 768, n = 64 … 1000, T = 1 … 2048. Only the ratios of the rates matter.
 */
const HOST_PRODUCT: Readonly<Record<string, number>> = { wasm: 0.04, cpu: 1 }

/** Nanoseconds that `core`'s transforms take for each feature of a token (both sides), and for each entry. */
const HOST_SPECTRAL = 6

/** Nanoseconds that `core` takes for each number of ΔW. */
const HOST_DELTA = 14

/** By the name of the backend. */
const calibrations = new Map<string, Calibration>()

/** Makes `auto` choose by this calibration on its backend. */
export function installCalibration(calibration: Calibration): void {
  calibrations.set(calibration.backend, calibration)
}

/** Lists the strategies that the current backend has. */
export function availableStrategies(): readonly TfjsStrategy[] {
  return [...PORTABLE, ...(hasNativeKernel() ? (['native'] as const) : [])]
}

/** Returns the fastest strategy on the current backend: by the calibration of this device, otherwise by the rates in this file. */
export function chooseStrategy(size: LinearSize): TfjsStrategy {
  if (!isSpectralExact(size)) return cheapestWithoutSpectral(size)
  const calibration = calibrations.get(getBackend())
  const measured = calibration && fastestStrategy(calibration, size, availableStrategies())
  if (measured !== undefined) return measured
  // `native` was the fastest at every measured size.
  if (hasNativeKernel()) return 'native'
  if (isTensorflowBackend() && !isTensorflowOnGpu()) return cheapestOnTensorflow(size)
  const product = HOST_PRODUCT[getBackend()]
  return product === undefined ? cheapest(multiplications(size)) : cheapestOnHost(size, product)
}

function cheapestWithoutSpectral({ tokens, shape: [d1, d2], n }: LinearSize): TfjsStrategy {
  return tokens * 2 * n * (d1 + d2) < (tokens + 2 * n) * d1 * d2 ? 'factored' : 'dense'
}

/** Leaves out `factored`, which is never the fastest in JavaScript's memory: its products cost more than the transforms. */
function cheapestOnHost({ tokens, shape: [d1, d2], n }: LinearSize, product: number): TfjsStrategy {
  const spectral = tokens * HOST_SPECTRAL * (d1 + d2 + n)
  const dense = d1 * d2 * (HOST_DELTA + tokens * product)
  return spectral <= dense ? 'spectral' : 'dense'
}

/**
 * Returns the fastest strategy on TensorFlow's CPU. The constants are nanoseconds of a pass, of a multiply-add, and of a number that
 * `spectral` transforms or multiplies. Fitted to passes at d = 16 … 1024, n = 64 … 1000, T = 1 … 2048; the constants of a pass matter only
 * below d = 256.
 */
export function cheapestOnTensorflow({ tokens, shape: [d1, d2], n }: LinearSize): TfjsStrategy {
  return cheapest({
    dense: 180_000 + d1 * d2 * (0.016 * n + 0.008 * tokens),
    factored: 220_000 + 0.016 * tokens * n * (d1 + d2),
    spectral: 220_000 + 2 * tokens * (d1 + d2 + n),
  })
}

/**
 * Returns the multiply-adds of each strategy, which decide on devices that were not measured. In the portable form of `spectral`, the outer
 * products take about `2d·√d` each, and so do the inner products. The factor 2 accounts for operators that do not multiply.
 */
export function multiplications({
  tokens,
  shape: [d1, d2],
  n,
}: LinearSize): Readonly<Record<TfjsStrategy, number>> {
  const spectral = 2 * tokens * (4 * (d1 ** 1.5 + d2 ** 1.5) + 4 * n)
  return {
    factored: tokens * 2 * n * (d1 + d2),
    dense: (tokens + 2 * n) * d1 * d2,
    spectral,
    native: spectral,
  }
}

function cheapest(costs: Readonly<Record<PortableStrategy, number>>): TfjsStrategy {
  return PORTABLE.reduce((best, strategy) => (costs[strategy] < costs[best] ? strategy : best))
}
