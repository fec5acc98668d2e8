/** Measures on the device that is current which strategy is fastest for which size, so that `auto` chooses by that. */
import { FourierFTError, type Shape, uniformEntries } from '@fourierft/core'
import { dispose, getBackend, randomNormal, slice, type Tensor } from '@tensorflow/tfjs-core'
import { fourierLinear } from './fourier-linear.js'
import type { Calibration, MeasuredSize } from './strategies/calibration.js'
import { availableStrategies, installCrossover, type TfjsStrategy } from './strategies/choose-strategy.js'
import { TableCache } from './table-cache.js'

export interface CalibrateOptions {
  /** `[d1, d2]` = `[out, in]` of the layers to measure. Default: squares of 64, 256 and 1024. */
  readonly shapes?: readonly Shape[] | undefined
  /** Tokens of a batch, all of its rows. Default: 1, 32, 512. */
  readonly tokens?: readonly number[] | undefined
  /** Entries of each layer, no more than it has places. Default: 1000, as PEFT's. */
  readonly n?: number | undefined
  /** Milliseconds to measure for. What is running then is finished, what is left is left out. Default: 5000. */
  readonly budget?: number | undefined
}

/** A number is read back after so many milliseconds of work, lest the way back from a device be all that is measured. */
const BATCH = 10
const ROUNDS = 5

/**
 * Times forward passes with every strategy on the current backend, and has `auto` choose by them there from now on.
 *
 * Each strategy runs first unmeasured, for tables and shaders are made then; then by turns, medians of up to five rounds, each of as many
 * passes as it takes for the wait for a result not to count.
 *
 * @returns what was measured: plain data for `installCalibration`, on this device, another time
 * @throws {FourierFTError} `INVALID_OPTION` for sizes and a budget that are none
 */
export async function calibrate({
  shapes = [64, 256, 1024].map((d) => [d, d] as const),
  tokens = [1, 32, 512],
  n = 1000,
  budget = 5000,
}: CalibrateOptions = {}): Promise<Calibration> {
  checkSizes('shapes', shapes.flat())
  checkSizes('tokens', tokens)
  checkSizes('n', [n])
  if (!isPositive(budget)) throw invalid('budget', 'a number of milliseconds above 0', budget)
  const start = performance.now()
  const sizes: MeasuredSize[] = []
  const all = shapes.flatMap((shape) =>
    tokens.map((tokens) => ({ shape, tokens, n: Math.min(n, shape[0] * shape[1]) })),
  )
  for (const [i, size] of all.entries()) {
    const left = budget - (performance.now() - start)
    // One size at least, or there is nothing to choose by.
    if (i > 0 && left <= 0) break
    sizes.push({ ...size, milliseconds: await timesOf(size, left / (all.length - i)) })
  }
  const calibration = { backend: getBackend(), sizes }
  installCrossover(calibration)
  return calibration
}

/**
 * Has `auto` choose by what `calibrate` measured before, on the backend it was measured on. The device should be that one too.
 *
 * @param calibration from `calibrate`, also by way of JSON
 * @throws {FourierFTError} `INVALID_OPTION` where it is none
 */
export function installCalibration(calibration: Calibration): void {
  const { backend, sizes } = (calibration ?? {}) as Partial<Calibration>
  if (typeof backend !== 'string') throw invalid('backend', 'the name of a TensorFlow.js backend', backend)
  if (!Array.isArray(sizes) || sizes.length === 0) throw invalid('sizes', 'what calibrate() measured', sizes)
  for (const [i, size] of (sizes as readonly Partial<MeasuredSize>[]).entries()) {
    const { shape, tokens, n, milliseconds } = size ?? {}
    checkSizes(`sizes[${i}]`, [shape?.[0], shape?.[1], tokens, n])
    for (const [strategy, time] of Object.entries(milliseconds ?? {})) {
      if (!isPositive(time)) throw invalid(`sizes[${i}].milliseconds.${strategy}`, 'a number above 0', time)
    }
  }
  installCrossover(calibration)
}

type Times = Partial<Record<TfjsStrategy, number>>

/** Milliseconds of each strategy, in about `budget` milliseconds. */
async function timesOf(size: Omit<MeasuredSize, 'milliseconds'>, budget: number): Promise<Times> {
  const { shape, tokens, n } = size
  const spec = { shape, entries: uniformEntries({ shape, n, seed: 1 }), scaling: 1 }
  const tables = new TableCache()
  const x = randomNormal([tokens, shape[1]])
  const c = randomNormal([n])
  const pass = (strategy: TfjsStrategy) => fourierLinear(x, c, spec, { strategy, tables })
  const start = performance.now()
  try {
    const cases: { strategy: TfjsStrategy; repeats: number; times: number[] }[] = []
    for (const strategy of availableStrategies()) {
      await time(() => pass(strategy), 1)
      const warm = await time(() => pass(strategy), 1)
      cases.push({ strategy, repeats: Math.max(1, Math.round(BATCH / warm)), times: [warm] })
    }
    for (let round = 0; round < ROUNDS && performance.now() - start < budget; round++) {
      for (const { strategy, repeats, times } of cases) {
        const measured = await time(() => pass(strategy), repeats)
        // What was measured in one pass stands only where there is nothing better.
        if (round === 0) times.length = 0
        times.push(measured)
      }
    }
    return Object.fromEntries(cases.map(({ strategy, times }) => [strategy, median(times)]))
  } finally {
    tables.dispose()
    dispose([x, c])
  }
}

/** Milliseconds of one call, when one number of the last result is there: a device works its queue off in order. */
async function time(run: () => Tensor, repeats: number): Promise<number> {
  const start = performance.now()
  for (let i = 1; i < repeats; i++) run().dispose()
  const result = run()
  const probe = slice(result, [0, 0], [1, 1])
  result.dispose()
  await probe.data()
  probe.dispose()
  return (performance.now() - start) / repeats
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] as number
}

function checkSizes(option: string, values: readonly unknown[]): void {
  const isSize = (value: unknown) => Number.isSafeInteger(value) && isPositive(value)
  if (values.length === 0 || !values.every(isSize)) throw invalid(option, 'whole numbers from 1 on', values)
}

function isPositive(value: unknown): boolean {
  return typeof value === 'number' && value > 0
}

function invalid(option: string, expected: string, received: unknown): FourierFTError {
  return new FourierFTError(
    'INVALID_OPTION',
    `calibration: ${option}: expected ${expected}; received ${received}`,
    {
      option,
      expected,
      received,
    },
  )
}
