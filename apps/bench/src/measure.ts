/**
 * Interleaved measurement: every round runs every case, so that other load on the machine affects all cases, and ratios are taken within a
 * round. Times are never printed and never asserted.
 */

export type Effort = 'quick' | 'full'

export interface Case {
  readonly name: string
  readonly run: () => void | Promise<void>
  /** If another process measures itself: milliseconds of one of `repeats` calls. `run` is not called then. */
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

/** The number of rounds. It is reduced, to five at least, if they would take longer than the budget in milliseconds. */
const ROUNDS: Readonly<Record<Effort, number>> = { quick: 5, full: 21 }
const FEWEST_ROUNDS = 5
const BUDGET = 4000

/** Each case is repeated within a round until it takes about this long, in milliseconds. */
const ROUND_TIME = 20

/** Calls with fewer milliseconds than this are disturbed if the caches contain the data of another case. */
const SHORT = 200

/**
 * The cost of a case in milliseconds. `processor` is the processor time of this process (user and system, with garbage collection): a busy
 * machine disturbs it least, and it is fair if both sides run on one thread. `wall` is the elapsed time, for several threads or a device.
 */
export type Clock = 'processor' | 'wall'

const CLOCKS: Readonly<Record<Clock, () => number>> = {
  processor: () => {
    const { user, system } = process.cpuUsage()
    return (user + system) / 1000
  },
  wall: () => performance.now(),
}

/** Milliseconds of one call, `[case][round]`. */
export async function interleave(cases: readonly Case[], effort: Effort, clock: Clock): Promise<number[][]> {
  const now = CLOCKS[clock]
  const repeats: number[] = []
  const isShort: boolean[] = []
  let roundTime = 0
  for (const each of cases) {
    // Warm-up, so that V8 has compiled the code: one call, then as many as fit into a round.
    const first = await time(now, each, 1)
    const warm = await time(now, each, Math.ceil(ROUND_TIME / Math.max(first, ROUND_TIME / 2000)))
    const count = Math.max(1, Math.round(ROUND_TIME / warm))
    repeats.push(count)
    isShort.push(warm < SHORT)
    roundTime += (count + (warm < SHORT ? 1 : 0)) * warm
  }
  const rounds = Math.min(ROUNDS[effort], Math.max(FEWEST_ROUNDS, Math.floor(BUDGET / roundTime)))
  const times: number[][] = cases.map(() => [])
  for (let round = 0; round < rounds; round++) {
    for (const [i, each] of cases.entries()) {
      // One call first, so that data of the previous case in the caches does not count.
      if (isShort[i]) await time(now, each, 1)
      times[i].push(await time(now, each, repeats[i]))
    }
  }
  return times
}

async function time(now: () => number, { run, time: ownTime }: Case, repeats: number): Promise<number> {
  if (ownTime) return ownTime(repeats)
  const start = now()
  for (let i = 0; i < repeats; i++) {
    const pending = run()
    if (pending !== undefined) await pending
  }
  return (now() - start) / repeats
}

/** The ratios `times/baseline` of the rounds. */
export function ratio(times: readonly number[], baseline: readonly number[]): Spread {
  return spread(times.map((value, round) => value / baseline[round]))
}

export function median(values: readonly number[]): number {
  return spread(values).median
}

function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b)
  const at = (fraction: number) => sorted[Math.round(fraction * (sorted.length - 1))]
  return { low: at(0.25), median: at(0.5), high: at(0.75) }
}

/** `1.23 [1.20–1.31]` */
export function formatRatio({ low, median, high }: Spread): string {
  return `${digits(median)} [${digits(low)}–${digits(high)}]`
}

function digits(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3)
}

/** One case as a multiple of a case other than the first. */
export interface Comparison {
  readonly of: string
  readonly over: string
  /** The upper limit that the ratio should meet. */
  readonly goal?: number
}

/**
 * Measures all cases and prints one line: every other case as a multiple of the first. A second line shows the comparisons whose cases were
 * measured.
 */
export async function printRatios(
  title: string,
  cases: readonly Case[],
  effort: Effort,
  clock: Clock,
  comparisons: readonly Comparison[] = [],
): Promise<void> {
  const times = await interleave(cases, effort, clock)
  for (const [i, { parts = 1 }] of cases.entries()) times[i] = times[i].map((time) => time / parts)
  const columns = cases.slice(1).map(({ name, goal }, i) => `${name} ${judge(times[i + 1], times[0], goal)}`)
  console.log(`  ${title.padEnd(30)}${columns.join('   ')}`)
  const timesOf = (name: string) => times[cases.findIndex((each) => each.name === name)]
  const further = comparisons
    .filter(({ of, over }) => timesOf(of) && timesOf(over))
    .map(({ of, over, goal }) => `${of} over ${over} ${judge(timesOf(of), timesOf(over), goal)}`)
  if (further.length > 0) console.log(`  ${''.padEnd(30)}${further.join('   ')}`)
}

function judge(times: readonly number[], baseline: readonly number[], goal: number | undefined): string {
  const found = ratio(times, baseline)
  const verdict = goal === undefined ? '' : ` (goal ${goal}: ${found.median <= goal ? 'met' : 'missed'})`
  return formatRatio(found) + verdict
}

export function printSection(title: string, explanation: string): void {
  console.log(`\n${title}\n  ${explanation}`)
}
