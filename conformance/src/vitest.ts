/** The suite as tests: one for each level, so that a backend's test file is ten lines. */
import type { Backend } from '@fourierft/core'
import { afterAll, beforeAll, describe, it } from 'vitest'
import { LEVELS } from './levels/index.js'
import type { ConformanceReport, LevelNumber, LevelResult } from './report.js'
import { type ConformanceOptions, runConformance } from './run.js'
import { loadVectors, type Vectors } from './vectors.js'
import { ABILITIES, type Ability, Bench, runSituation, SITUATIONS } from './verbs/situations.js'
import type { AdapterSubjects } from './verbs/subject.js'

export interface TestBackendOptions extends Omit<ConformanceOptions, 'onCheck'> {
  /** For each level, in milliseconds. Default: 300 000. */
  readonly timeout?: number
  /** What is particular to this backend: called inside its `describe`, with the backend that the levels run on. */
  readonly additionalTests?: (backend: () => Backend) => void
  /** The whole report, after the last level. */
  readonly onReport?: (report: ConformanceReport) => void | Promise<void>
}

/**
 * Registers one test for each level. A failing level lists its failing checks; a level that the backend does not do is a skipped test
 * with the reason, never a passing one.
 */
export function testBackend(
  createBackend: () => Backend | Promise<Backend>,
  { timeout = 300_000, additionalTests, onReport, ...options }: TestBackendOptions = {},
): void {
  describe('conformance', () => {
    let created: Backend | undefined
    let vectors: Vectors
    const results: { report: ConformanceReport; level: LevelResult }[] = []
    const backend = () => {
      if (created === undefined) throw new Error('the backend is made before the first test')
      return created
    }

    beforeAll(async () => {
      vectors = options.vectors ?? (await loadVectors())
      created = await createBackend()
    }, timeout)

    afterAll(async () => {
      const [first] = results
      if (first !== undefined) {
        const seconds = results.reduce((sum, { level }) => sum + level.seconds, 0)
        await onReport?.({ ...first.report, seconds, levels: results.map(({ level }) => level) })
      }
      await created?.dispose?.()
    }, timeout)

    const chosen = LEVELS.filter(({ level }) => options.levels?.includes(level) ?? true)
    it.for(chosen.map(({ level, title }): [LevelNumber, string] => [level, title]))(
      'level %i: %s',
      { timeout },
      async ([number], context) => {
        const report = await runConformance(backend(), { ...options, vectors, levels: [number] })
        const [level] = report.levels
        if (level === undefined) throw new Error(`there is no level ${number}`)
        results.push({ report, level })
        if (level.status === 'skip') context.skip(level.reason)
        const failures = level.checks.filter(({ status }) => status === 'fail')
        if (failures.length > 0) {
          const list = failures.map((check) => `  ${check.name}: ${check.reason}`)
          throw new Error(`${failures.length} of ${level.checks.length} checks failed:\n${list.join('\n')}`)
        }
      },
    )

    additionalTests?.(backend)
  })
}

export interface TestAdaptersOptions {
  /** What the package cannot do; the situations that need it are left out. */
  readonly lacks?: readonly Ability[]
  /** For each situation, in milliseconds. Default: 120 000. */
  readonly timeout?: number
}

/**
 * Registers one test for each situation in the life cycle of adapters: what verbs do before, during and after calls, loads, merges and
 * training.
 */
export function testAdapters(
  createSubjects: () => AdapterSubjects | Promise<AdapterSubjects>,
  { lacks = [], timeout = 120_000 }: TestAdaptersOptions = {},
): void {
  describe('life cycle of adapters', () => {
    let bench: Bench

    beforeAll(async () => {
      bench = await Bench.open(await createSubjects())
    }, timeout)

    it('the package lacks only what it says', async () => {
      const subject = await bench.subject()
      const missing = ABILITIES.filter((ability) => subject[ability] === undefined)
      await bench.close()
      if (missing.join() !== ABILITIES.filter((ability) => lacks.includes(ability)).join())
        throw new Error(
          `the subject lacks ${missing.join(' and ') || 'nothing'}; the test says ${lacks.join(' and ') || 'nothing'}`,
        )
    })

    const situations = SITUATIONS.filter(({ needs }) => needs === undefined || !lacks.includes(needs))
    it.for(situations.map((situation) => [situation.name, situation] as const))(
      '%s',
      { timeout },
      ([, situation]) => runSituation(situation, bench),
    )
  })
}
