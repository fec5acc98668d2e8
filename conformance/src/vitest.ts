/** Registers the suite as tests of vitest: one for each level, and one for each situation in the life cycle of adapters. */
import type { Backend } from '@fourierft/core/conformance'
import { afterAll, beforeAll, describe, it } from 'vitest'
import {
  ABILITIES,
  type Ability,
  PackageUnderTest,
  runSituation,
  SITUATIONS,
} from './adapter-life-cycle/situations.js'
import type { AdapterSubjects } from './adapter-life-cycle/subject.js'
import { LEVELS } from './levels/index.js'
import type { ConformanceReport, LevelNumber, LevelResult } from './report.js'
import { type ConformanceOptions, runConformance } from './run.js'
import { loadVectors, type Vectors } from './vectors.js'

export interface TestBackendOptions extends Omit<ConformanceOptions, 'onCheck'> {
  /** The time limit of each level, in milliseconds. Default: 300 000. */
  readonly timeout?: number
  /**
   * The levels that are gaps of the backend, with the reason; also the levels of training if only the suite trains (`trainable: 'suite'`). Each
   * is a test named `gap: level 2 file: REASON`, which passes if the level is a gap. A gap that is not listed is a skipped test.
   */
  readonly lacks?: Partial<Readonly<Record<LevelNumber, string>>>
  /** Registers tests that only this backend needs. Called inside its `describe`, with a getter of the backend. */
  readonly additionalTests?: (backend: () => Backend) => void
  /** Receives the whole report after the last level. */
  readonly onReport?: (report: ConformanceReport) => void | Promise<void>
}

/** Registers one test for each level. A failing level lists its failing checks. */
export function testBackend(
  createBackend: () => Backend | Promise<Backend>,
  { timeout = 300_000, lacks = {}, additionalTests, onReport, ...options }: TestBackendOptions = {},
): void {
  describe('conformance', () => {
    let created: Backend | undefined
    let vectors: Vectors
    const results: { report: ConformanceReport; level: LevelResult }[] = []
    const backend = () => {
      if (created === undefined) throw new Error('the backend is not open before the first test')
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
    for (const { level: number, title } of chosen) {
      const gap = lacks[number]
      const name = gap === undefined ? `level ${number}: ${title}` : `gap: level ${number} ${title}: ${gap}`
      it(name, { timeout }, async (context) => {
        const report = await runConformance(backend(), { ...options, vectors, levels: [number] })
        const [level] = report.levels
        if (level === undefined) throw new Error(`there is no level ${number}`)
        results.push({ report, level })
        const failures = level.checks.filter(({ status }) => status === 'fail')
        if (failures.length > 0) {
          const list = failures.map((check) => `  ${check.name}: ${check.reason}`)
          throw new Error(`${failures.length} of ${level.checks.length} checks failed:\n${list.join('\n')}`)
        }
        const isGap = level.status === 'skip' || level.suiteOnly === true
        if (isGap && gap === undefined)
          context.skip(level.suiteOnly ? 'users cannot train with this backend' : level.reason)
        if (!isGap && gap !== undefined) {
          throw new Error(`the backend passes level ${number}; remove it from the option lacks`)
        }
      })
    }

    additionalTests?.(backend)
  })
}

export interface TestAdaptersOptions {
  /** The abilities that the package lacks; situations that need them are omitted. */
  readonly lacks?: readonly Ability[]
  /** The time limit of each situation, in milliseconds. Default: 300 000. */
  readonly timeout?: number
}

/** Registers one test for each situation in the life cycle of adapters: methods before, during and after calls, loads, merges and training. */
export function testAdapters(
  createSubjects: () => AdapterSubjects | Promise<AdapterSubjects>,
  { lacks = [], timeout = 300_000 }: TestAdaptersOptions = {},
): void {
  describe('life cycle of adapters', () => {
    let tested: PackageUnderTest

    beforeAll(async () => {
      tested = await PackageUnderTest.open(await createSubjects())
    }, timeout)

    it('has every ability except those in the option lacks', async () => {
      const subject = await tested.subject()
      const missing = ABILITIES.filter((ability) => subject[ability] === undefined)
      await tested.close()
      if (missing.join() !== ABILITIES.filter((ability) => lacks.includes(ability)).join())
        throw new Error(
          `the subject lacks ${missing.join(' and ') || 'nothing'}; the option lacks names ${lacks.join(' and ') || 'nothing'}`,
        )
    })

    const situations = SITUATIONS.filter(({ needs }) => needs === undefined || !lacks.includes(needs))
    it.for(situations.map((situation) => [situation.name, situation] as const))(
      '%s',
      { timeout },
      ([, situation]) => runSituation(situation, tested),
    )
  })
}
