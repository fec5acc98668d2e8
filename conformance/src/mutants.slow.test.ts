/** Tests of the suite: correct backends pass, and each mutant fails exactly at the levels that it names. */
import { beforeAll, describe, expect, it } from 'vitest'
import { cleanBackend, MUTANTS } from './mutants.js'
import { referenceBackend } from './reference-backend.js'
import type { ConformanceReport, Status } from './report.js'
import { runConformance } from './run.js'
import { loadVectors, type Vectors } from './vectors.js'

let vectors: Vectors
beforeAll(async () => {
  vectors = await loadVectors()
})

const levelsWith = ({ levels }: ConformanceReport, status: Status) =>
  levels.filter((level) => level.status === status).map(({ level }) => level)

describe('correct backends pass', () => {
  it('core, the base of most mutants', async () => {
    const report = await runConformance(cleanBackend(), { quick: true, vectors })
    expect(levelsWith(report, 'pass')).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
  })

  it('the float64 reference, except level 2, because it reads no files', async () => {
    const report = await runConformance(referenceBackend(), { quick: true, vectors })
    expect(levelsWith(report, 'pass')).toEqual([1, 3, 4, 5, 6, 7, 8])
    expect(levelsWith(report, 'skip')).toEqual([2])
    const skipped = report.levels.flatMap(({ checks }) => checks.filter(({ status }) => status === 'skip'))
    expect(skipped.map(({ level, name }) => `${level} ${name}`)).toEqual([
      '2 round trip',
      '4 dense',
      '4 spectral',
      '5 dense',
      '5 spectral',
    ])
  })
})

describe('mutants fail', () => {
  it.for(MUTANTS.map((mutant) => [mutant.name, mutant] as const))('%s', async ([, mutant]) => {
    const report = await runConformance(mutant.create(), { quick: true, vectors })
    expect(levelsWith(report, 'fail')).toEqual(mutant.failsAt)
  })

  it('mutants have distinct names', () => {
    expect(new Set(MUTANTS.map(({ name }) => name)).size).toBe(MUTANTS.length)
  })
})

it('a backend whose functions reject fails at every level that calls them', async () => {
  const broken = {
    ...referenceBackend(),
    delta: () => Promise.reject(new Error('the device was lost')),
    linear: () => Promise.reject(new Error('the device was lost')),
  }
  const report = await runConformance(broken, { quick: true, vectors })
  expect(levelsWith(report, 'fail')).toEqual([1, 3, 4, 5, 6, 7, 8])
  expect(report.levels.find(({ level }) => level === 4)?.reason).toContain('the device was lost')
})
