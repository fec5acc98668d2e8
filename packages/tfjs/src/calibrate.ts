/** Measures on the device that is current which strategy is fastest for which size, so that `auto` chooses by that. */
import { FourierFTError, uniformEntries } from '@fourierft/core'
import { dispose, getBackend, randomNormal, slice, type Tensor } from '@tensorflow/tfjs-core'
import { fourierLinear } from './fourier-linear.js'
import type { Calibration, MeasuredSize } from './strategies/calibration.js'
import { availableStrategies, installCalibration, multiplications } from './strategies/choose-strategy.js'
import type { LinearSize, TfjsStrategy } from './strategies/strategy.js'
import { TableCache } from './table-cache.js'

export interface CalibrateOptions {
  /** What to measure, small sizes first. Default: layers `[d, d]` of d = 64, 256 and 1024 with n = 1000, at 1, 32 and 512 tokens. */
  readonly sizes?: readonly LinearSize[] | undefined
  /** Milliseconds to measure for: a pass that is expected to take longer than what is left of them is not begun. Default: 2000. */
  readonly timeLimit?: number | undefined
}

const DEFAULT_SIZES: readonly LinearSize[] = [64, 256, 1024].flatMap((d) =>
  [1, 32, 512].map((tokens) => ({ shape: [d, d] as const, tokens, n: 1000 })),
)

/** A number is read back after so many milliseconds of work, lest the way back from a device be all that is measured. */
const BATCH = 10
/** Even where a coarse clock says that a pass takes no time. */
const MOST_REPEATS = 32
const ROUNDS = 5

/**
 * Times forward passes with every strategy on the current backend, and has `auto` choose by them there from now on.
 *
 * Each strategy runs first unmeasured, for tables and shaders are made then; then by turns, medians of up to five rounds, each of as many
 * passes as it takes for the wait for a result not to count. The first size is measured with every strategy. At the others those that were
 * faster come first, and those for which the time does not suffice are left out: `auto` does not choose them there.
 *
 * @returns what was measured: plain data for `useCalibration`, on this device, another time
 * @throws {FourierFTError} `INVALID_OPTION` for sizes and a limit that are none, `INVALID_STATE` where another backend became current
 *   meanwhile; nothing is installed then
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
      `calibrate: the backend was '${backend}' and is '${getBackend()}' now; calibrate again and leave it be meanwhile`,
    )
  }
  const calibration = { backend, sizes: measured }
  installCalibration(calibration)
  return calibration
}

/**
 * Has `auto` choose by what `calibrate` measured before, on the backend it was measured on. The device should be that one too.
 *
 * @param calibration from `calibrate`, also by way of JSON
 * @throws {FourierFTError} `INVALID_OPTION` where it is none; nothing is changed then
 */
export function useCalibration(calibration: Calibration): void {
  const { backend, sizes } = (calibration ?? {}) as Partial<Calibration>
  if (typeof backend !== 'string') throw invalid('backend', 'the name of a TensorFlow.js backend', backend)
  checkSizes(sizes)
  for (const [i, { milliseconds }] of (sizes as readonly Partial<MeasuredSize>[]).entries()) {
    const times = Object.entries(milliseconds ?? {})
    if (times.length === 0) throw invalid(`sizes[${i}].milliseconds`, 'times of strategies', milliseconds)
    for (const [strategy, time] of times) {
      if (!isTime(time)) throw invalid(`sizes[${i}].milliseconds.${strategy}`, 'a number from 0 on', time)
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

/** Fastest first: the lowest time for a multiplication that was measured of each strategy, times its multiplications. */
function expectations(size: LinearSize, measured: readonly MeasuredSize[]): Expectation[] {
  const rate = (strategy: TfjsStrategy) =>
    measured.reduce((lowest, known) => {
      const time = known.milliseconds[strategy] ?? Number.POSITIVE_INFINITY
      return Math.min(lowest, time / multiplications(known)[strategy])
    }, Number.POSITIVE_INFINITY)
  return availableStrategies()
    .map((strategy) => ({
      strategy,
      // The first size is measured in any case.
      expected:
        measured.length === 0 ? Number.NEGATIVE_INFINITY : rate(strategy) * multiplications(size)[strategy],
    }))
    .toSorted((a, b) => a.expected - b.expected)
}

/** Milliseconds of each strategy that can be done before `end`, in about `share` milliseconds. */
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
      // Two passes, one of them unmeasured.
      if (performance.now() + 2 * expected > end) break
      await time(() => pass(strategy), 1)
      const warm = await time(() => pass(strategy), 1)
      const repeats = Math.min(MOST_REPEATS, Math.max(1, Math.round(BATCH / warm)))
      cases.push({ strategy, repeats, times: [warm] })
    }
    for (let round = 0; round < ROUNDS && performance.now() < endOfShare; round++) {
      for (const { strategy, repeats, times } of cases) {
        const measured = await time(() => pass(strategy), repeats)
        // What was measured in one pass stands only where there is nothing better.
        if (round === 0) times.length = 0
        times.push(measured)
      }
    }
    return Object.fromEntries(cases.map(({ strategy, times }) => [strategy, median(times)]))
  } finally {
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
  return values.toSorted((a, b) => a - b)[values.length >> 1]
}

function checkSizes(sizes: unknown): void {
  if (!Array.isArray(sizes) || sizes.length === 0) throw invalid('sizes', 'a list of at least one', sizes)
  for (const [i, size] of (sizes as readonly (Partial<LinearSize> | null)[]).entries()) {
    const { shape, tokens, n } = size ?? {}
    const [d1, d2, ...more] = Array.isArray(shape) ? (shape as unknown[]) : []
    const fits =
      isCount(d1) && isCount(d2) && more.length === 0 && isCount(tokens) && isCount(n) && n <= d1 * d2
    if (!fits) {
      const expected = '{ shape: [d1, d2], tokens, n }, whole numbers from 1 on, with n no more than d1·d2'
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
