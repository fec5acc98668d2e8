/**
 * Interleaved measurement: each round runs every case, so that other load on the machine affects all cases, and ratios are computed within a
 * round. Times are never printed, and no test depends on them.
 */

/** `quick` only tests that everything runs. */
export type RunLength = 'quick' | 'full'

export interface Case {
  readonly name: string
  readonly run: () => void | Promise<void>
  /** Measures in another process, instead of `run`. @returns milliseconds of one of `repeats` calls */
  readonly time?: (repeats: number) => Promise<number>
  /** The number of compared units in one run. Default: 1 */
  readonly parts?: number
  /** The upper limit that the ratio should meet. */
  readonly goal?: number | undefined
}

/** A median and its quartiles. */
export interface Spread {
  readonly low: number
  readonly median: number
  readonly high: number
}

/** The largest number of rounds. */
const ROUNDS: Readonly<Record<RunLength, number>> = { quick: 5, full: 21 }
/** The smallest number of rounds. */
const MIN_ROUNDS = 5
/** There are fewer rounds if all would take longer than this, in milliseconds. */
const BUDGET = 4000

/** Each case is repeated within a round until it takes about this long, in milliseconds. */
const ROUND_TIME = 20

/** The caches, which contain the data of the case before, noticeably slow calls that take fewer milliseconds than this. */
const SHORT = 200

/**
 * The cost of a case in milliseconds. `processor` is the processor time of this process (user and system, with garbage collection): other
 * load disturbs it least, and it is fair if all cases run on one thread. `wall` is the elapsed time, for several threads or a device.
 */
export type Clock = 'processor' | 'wall'

const CLOCKS: Readonly<Record<Clock, () => number>> = {
  processor: () => {
    const { user, system } = process.cpuUsage()
    return (user + system) / 1000
  },
  wall: () => performance.now(),
}

/** Returns the milliseconds of one call, `[case][round]`. */
export async function interleave(
  cases: readonly Case[],
  runLength: RunLength,
  clock: Clock,
): Promise<number[][]> {
  const now = CLOCKS[clock]
  const repeats: number[] = []
  const isShort: boolean[] = []
  let roundTime = 0
  for (const measured of cases) {
    // Warm up, so that V8 compiles the code: one call, then as many as fit into a round.
    const first = await time(now, measured, 1)
    const warm = await time(now, measured, Math.ceil(ROUND_TIME / Math.max(first, ROUND_TIME / 2000)))
    const count = Math.max(1, Math.round(ROUND_TIME / warm))
    repeats.push(count)
    isShort.push(warm < SHORT)
    roundTime += (count + (warm < SHORT ? 1 : 0)) * warm
  }
  const rounds = Math.min(ROUNDS[runLength], Math.max(MIN_ROUNDS, Math.floor(BUDGET / roundTime)))
  const times: number[][] = cases.map(() => [])
  for (let round = 0; round < rounds; round++) {
    for (const [i, measured] of cases.entries()) {
      // The first call loads the caches, and is not measured.
      if (isShort[i]) await time(now, measured, 1)
      times[i].push(await time(now, measured, repeats[i]))
    }
  }
  return times
}

async function time(now: () => number, { run, time: timeElsewhere }: Case, repeats: number): Promise<number> {
  if (timeElsewhere) return timeElsewhere(repeats)
  const start = now()
  for (let i = 0; i < repeats; i++) {
    const pending = run()
    if (pending !== undefined) await pending
  }
  return (now() - start) / repeats
}

/** Returns the spread of the ratios `times/baseline` of the rounds. */
export function ratio(times: readonly number[], baseline: readonly number[]): Spread {
  return spread(times.map((value, round) => value / baseline[round]))
}

export function median(values: readonly number[]): number {
  return spread(values).median
}

function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b)
  const quantile = (fraction: number) => sorted[Math.round(fraction * (sorted.length - 1))]
  return { low: quantile(0.25), median: quantile(0.5), high: quantile(0.75) }
}

/** Formats a spread as `1.23 [1.20–1.31]`. */
export function formatRatio({ low, median, high }: Spread): string {
  return `${digits(median)} [${digits(low)}–${digits(high)}]`
}

function digits(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3)
}

/** A comparison with a case other than the first. */
export interface Comparison {
  readonly name: string
  readonly baseline: string
  /** The upper limit that the ratio should meet. */
  readonly goal?: number
}

/**
 * Measures all cases and prints one line: every case as a multiple of the first. A second line has the comparisons whose cases were measured.
 */
export async function printRatios(
  title: string,
  cases: readonly Case[],
  runLength: RunLength,
  clock: Clock,
  comparisons: readonly Comparison[] = [],
): Promise<void> {
  const times = await interleave(cases, runLength, clock)
  for (const [i, { parts = 1 }] of cases.entries()) times[i] = times[i].map((time) => time / parts)
  const columns = cases
    .slice(1)
    .map(({ name, goal }, i) => `${name} ${formatWithGoal(times[i + 1], times[0], goal)}`)
  console.log(`  ${title.padEnd(30)}${columns.join('   ')}`)
  const timesOf = (name: string) => times[cases.findIndex((candidate) => candidate.name === name)]
  const further = comparisons
    .filter(({ name, baseline }) => timesOf(name) && timesOf(baseline))
    .map(
      ({ name, baseline, goal }) =>
        `${name} over ${baseline} ${formatWithGoal(timesOf(name), timesOf(baseline), goal)}`,
    )
  if (further.length > 0) console.log(`  ${''.padEnd(30)}${further.join('   ')}`)
}

/** Formats the spread of the ratios, with a verdict on the goal if there is one. */
export function formatWithGoal(
  times: readonly number[],
  baseline: readonly number[],
  goal: number | undefined,
): string {
  const found = ratio(times, baseline)
  const verdict = goal === undefined ? '' : ` (goal ${goal}: ${found.median <= goal ? 'met' : 'missed'})`
  return formatRatio(found) + verdict
}

export function printSection(title: string, explanation: string): void {
  console.log(`\n${title}\n  ${explanation}`)
}
