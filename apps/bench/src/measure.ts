/**
 * Interleaved measurement: every round runs every case, so that what the machine does meanwhile falls on all of them, and a ratio is
 * taken within a round. Times are never printed and never asserted.
 */

export type Effort = 'quick' | 'full'

export interface Case {
  readonly name: string
  readonly run: () => void | Promise<void>
  /** Milliseconds of one of so many calls, where another process measures itself; `run` is not called then. */
  readonly time?: (repeats: number) => Promise<number>
  /** A run is so many of what is compared. Default: 1 */
  readonly parts?: number
  /** The most that the ratio should be. */
  readonly goal?: number | undefined
}

/** A median with the quartiles around it. */
export interface Spread {
  readonly low: number
  readonly median: number
  readonly high: number
}

/** Rounds, fewer (but five) where they would take longer than the budget in milliseconds. */
const ROUNDS: Readonly<Record<Effort, number>> = { quick: 5, full: 21 }
const FEWEST_ROUNDS = 5
const BUDGET = 4000

/** Each case is repeated within a round until it takes about this long, in milliseconds. */
const ROUND_TIME = 20

/** Calls of less milliseconds than this are disturbed by caches that hold what another case has used. */
const SHORT = 200

/**
 * What a case costs, in milliseconds: all processor time of this process (user and system, garbage collection included), which a busy
 * machine disturbs least and is fair where both sides run on one thread; or the time on the wall, where threads or a device compute.
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
    // Warm-up, so that V8 has compiled what is measured: one call, then as many as fit a round.
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
      // What the case before has left in the caches is not what a case costs.
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

/** `times/baseline`, round by round. */
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

/** One case as a multiple of another than the first. */
export interface Comparison {
  readonly of: string
  readonly over: string
  /** The most that the ratio should be. */
  readonly goal?: number
}

/**
 * Measures all cases and prints one line: every case but the first as a multiple of the first. Comparisons of cases that are there follow
 * in a second one.
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
