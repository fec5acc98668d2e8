/** Measures on the current device which strategy is fastest for which size; `auto` then chooses by these times. */
import { FourierFTError, uniformEntries } from '@fourierft/core'
import { dispose, getBackend, randomNormal, slice, type Tensor } from '@tensorflow/tfjs-core'
import { fourierLinear } from './fourier-linear.js'
import type { Calibration, MeasuredSize } from './strategies/calibration.js'
import { availableStrategies, installCalibration, multiplications } from './strategies/choose-strategy.js'
import type { LinearSize, TfjsStrategy } from './strategies/strategy.js'
import { TableCache } from './table-cache.js'

export interface CalibrateOptions {
  /** The sizes to measure, small ones first. Default: layers `[d, d]` of d = 64, 256, 1024 with n = 1000, at 1, 32 and 512 tokens. */
  readonly sizes?: readonly LinearSize[] | undefined
  /** Milliseconds for all measurements: no pass starts that is expected to end after them. Default: 2000. */
  readonly timeLimit?: number | undefined
}

const DEFAULT_SIZES: readonly LinearSize[] = [64, 256, 1024].flatMap((d) =>
  [1, 32, 512].map((tokens) => ({ shape: [d, d] as const, tokens, n: 1000 })),
)

/** Milliseconds of work between two reads of a result. With less work, the read would take most of the time. */
const WORK_PER_READ = 10
/** The limit for passes that are too short for a coarse clock. */
const MAX_REPEATS = 32
const ROUNDS = 5

/**
 * Measures the time of forward passes with every strategy on the current backend. Then `auto` chooses by these times on this backend.
 *
 * The first run of each strategy is not measured, because it computes tables and compiles shaders. Then the strategies take turns for up
 * to five rounds of several passes each; the result is the median. The first size is measured with every strategy. For the other sizes, the
 * strategies that were faster so far come first, and those that would exceed the time limit are left out: `auto` does not choose them.
 *
 * @returns the times: plain data, which `useCalibration` can use later on this device
 * @throws {FourierFTError} `INVALID_OPTION` for invalid sizes or an invalid limit, `INVALID_STATE` if the current backend changed during
 *   the measurement; `auto` is unchanged then
 */
export async function calibrate({
  sizes = DEFAULT_SIZES,
  timeLimit = 2000,
}: CalibrateOptions = {}): Promise<Calibration> {
  checkSizes(sizes)
  if (!isTime(timeLimit) || timeLimit === 0) {
    throw invalid('timeLimit', 'a number of milliseconds above 0', timeLimit)
  }
  const backend = getBackend()
  const end = performance.now() + timeLimit
  const tables = new TableCache()
  const measured: MeasuredSize[] = []
  try {
    for (const [i, size] of sizes.entries()) {
      const share = (end - performance.now()) / (sizes.length - i)
      const milliseconds = await timesOf(size, expectations(size, measured), { end, share }, tables)
      if (Object.keys(milliseconds).length > 0) measured.push({ ...size, milliseconds })
    }
  } finally {
    tables.dispose()
  }
  if (getBackend() !== backend) {
    throw new FourierFTError(
      'INVALID_STATE',
      `calibrate: the backend changed from '${backend}' to '${getBackend()}' during the measurement`,
      { advice: 'calibrate again without changing the backend' },
    )
  }
  const calibration = { backend, sizes: measured }
  installCalibration(calibration)
  return calibration
}

/**
 * Makes `auto` choose by an earlier result of `calibrate`, on the backend that was measured. The device should be the same.
 *
 * @param calibration from `calibrate`, or its copy through JSON
 * @throws {FourierFTError} `INVALID_OPTION` for an invalid calibration; `auto` is unchanged then
 */
export function useCalibration(calibration: Calibration): void {
  const { backend, sizes } = (calibration ?? {}) as Partial<Calibration>
  if (typeof backend !== 'string') throw invalid('backend', 'the name of a TensorFlow.js backend', backend)
  checkSizes(sizes)
  for (const [i, { milliseconds }] of (sizes as readonly Partial<MeasuredSize>[]).entries()) {
    const times = Object.entries(milliseconds ?? {})
    if (times.length === 0) throw invalid(`sizes[${i}].milliseconds`, 'times of strategies', milliseconds)
    for (const [strategy, time] of times) {
      if (!isTime(time)) throw invalid(`sizes[${i}].milliseconds.${strategy}`, 'a number of at least 0', time)
    }
  }
  installCalibration(calibration)
}

type Times = Partial<Record<TfjsStrategy, number>>

interface Expectation {
  readonly strategy: TfjsStrategy
  /** Milliseconds of a pass. */
  readonly expected: number
}

/** Lists the strategies, fastest first. The expected time is the number of multiplications times the lowest measured time of one. */
function expectations(size: LinearSize, measured: readonly MeasuredSize[]): Expectation[] {
  const rate = (strategy: TfjsStrategy) =>
    measured.reduce((lowest, earlier) => {
      const time = earlier.milliseconds[strategy] ?? Number.POSITIVE_INFINITY
      return Math.min(lowest, time / multiplications(earlier)[strategy])
    }, Number.POSITIVE_INFINITY)
  return availableStrategies()
    .map((strategy) => ({
      strategy,
      // The first size is always measured.
      expected:
        measured.length === 0 ? Number.NEGATIVE_INFINITY : rate(strategy) * multiplications(size)[strategy],
    }))
    .toSorted((a, b) => a.expected - b.expected)
}

/** Measures each strategy that can finish before `end`, in milliseconds. The measurement takes about `share` milliseconds. */
async function timesOf(
  { shape, tokens, n }: LinearSize,
  strategies: readonly Expectation[],
  { end, share }: { readonly end: number; readonly share: number },
  tables: TableCache,
): Promise<Times> {
  const spec = { shape, entries: uniformEntries({ shape, n, seed: 1 }), scaling: 1 }
  const x = randomNormal([tokens, shape[1]])
  const c = randomNormal([n])
  const pass = (strategy: TfjsStrategy) => fourierLinear(x, c, spec, { strategy, tables })
  const endOfShare = performance.now() + share
  try {
    const cases: { strategy: TfjsStrategy; repeats: number; times: number[] }[] = []
    for (const { strategy, expected } of strategies) {
      // Two passes, one of them not measured.
      if (performance.now() + 2 * expected > end) break
      await time(() => pass(strategy), 1)
      const warm = await time(() => pass(strategy), 1)
      const repeats = Math.min(MAX_REPEATS, Math.max(1, Math.round(WORK_PER_READ / warm)))
      cases.push({ strategy, repeats, times: [warm] })
    }
    for (let round = 0; round < ROUNDS && performance.now() < endOfShare; round++) {
      for (const { strategy, repeats, times } of cases) {
        const milliseconds = await time(() => pass(strategy), repeats)
        // The single pass counts only if there is no time for a round.
        if (round === 0) times.length = 0
        times.push(milliseconds)
      }
    }
    return Object.fromEntries(cases.map(({ strategy, times }) => [strategy, median(times)]))
  } finally {
    dispose([x, c])
  }
}

/** Measures one call in milliseconds, until one number of the last result can be read: a device works through its queue in order. */
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
  return values.toSorted((a, b) => a - b)[values.length >> 1]
}

function checkSizes(sizes: unknown): void {
  if (!Array.isArray(sizes) || sizes.length === 0) throw invalid('sizes', 'a list of at least one', sizes)
  for (const [i, size] of (sizes as readonly (Partial<LinearSize> | null)[]).entries()) {
    const { shape, tokens, n } = size ?? {}
    const [d1, d2, ...more] = Array.isArray(shape) ? (shape as unknown[]) : []
    const isValid =
      isCount(d1) && isCount(d2) && more.length === 0 && isCount(tokens) && isCount(n) && n <= d1 * d2
    if (!isValid) {
      const expected = '{ shape: [d1, d2], tokens, n }, all whole numbers of at least 1, with n at most d1·d2'
      throw invalid(`sizes[${i}]`, expected, size)
    }
  }
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0
}

function invalid(option: string, expected: string, received: unknown): FourierFTError {
  return new FourierFTError(
    'INVALID_OPTION',
    `calibration: ${option}: expected ${expected}; received ${JSON.stringify(received)}`,
    { option, expected, received },
  )
}
