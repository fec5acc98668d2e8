/** What the report of every run must say. */
import { expect } from 'vitest'
import type { ChaosReport } from '../chaos.js'

/** Problems that a failure shows. */
const SHOWN = 20
/** Bytes of the heap that code and its statistics take while they warm up. */
const HEAP_NOISE = 4 * 2 ** 20
/** Bytes of the heap for each request. The smallest thing that a request could leave behind, a closure with its listener, is larger. */
const HEAP_PER_REQUEST = 100
/** More than all adapters that have room. */
const BUFFER_NOISE = 2 * 2 ** 20
/** Growth of the whole process: allocators keep what they got for the largest batch of each graph. */
const RSS_GROWTH = 1.15

export function expectSound(report: ChaosReport): void {
  const { problems, outcomes, measured } = report
  expect(problems.slice(0, SHOWN), `${problems.length} problems`).toEqual([])

  // The run tested what it is for.
  for (const outcome of [
    ...['200', '404', '422', 'aborted'].map((result) => `load right ${result}`),
    ...['400', '404', '413'].map((result) => `load bad ${result}`),
    ...['200', '503'].map((result) => `closing right ${result}`),
    ...['200', '409', '429'].map((result) => `crowded right ${result}`),
  ])
    expect(outcomes[outcome], outcome).toBeGreaterThan(0)
  expect(report.evictions).toBeGreaterThan(0)
  expect(report.rowsPerBatch).toBeGreaterThan(1.1)
  expect(report.ties).toBeLessThan(report.compared / 20)
  expect(report.distinctPairs).toBeGreaterThan(report.versionPairs / 2)

  const [warm, ...later] = measured
  const last = later.at(-1)
  if (warm === undefined || last === undefined) throw new Error('nothing was measured')
  const requests = last.requests - warm.requests
  expect(last.heap - warm.heap).toBeLessThan(HEAP_NOISE + HEAP_PER_REQUEST * requests)
  expect(last.arrayBuffers - warm.arrayBuffers).toBeLessThan(BUFFER_NOISE)
  expect(last.rss).toBeLessThan(RSS_GROWTH * warm.rss)
  expect(last.resources).toBeLessThanOrEqual(warm.resources)
  if (warm.files !== undefined) expect(last.files).toBeLessThanOrEqual(warm.files)
}

/** The seed of `FOURIERFT_CHAOS_SEED`, to repeat a run, or another one each time. */
export function chooseSeed(): number {
  const seed = Number(process.env.FOURIERFT_CHAOS_SEED ?? Date.now() % 2 ** 31)
  console.log(`FOURIERFT_CHAOS_SEED=${seed}`)
  return seed
}

/** One line with the counts of a run. */
export function summary({ problems, measured, ...counts }: ChaosReport): string {
  return JSON.stringify({ ...counts, problems: problems.length, measured })
}
