/** The suite's own test: it passes what is right, and fails each mutant at the levels that the mutant names, and at no other. */
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

describe('what is right passes', () => {
  it('core, which the mutants wrap', async () => {
    const report = await runConformance(cleanBackend(), { quick: true, vectors })
    expect(levelsWith(report, 'pass')).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
  })

  it('the float64 oracle as a backend, but for the files that it does not read', async () => {
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

describe('what is wrong fails', () => {
  it.for(MUTANTS.map((mutant) => [mutant.name, mutant] as const))('%s', async ([, mutant]) => {
    const report = await runConformance(mutant.create(), { quick: true, vectors })
    expect(levelsWith(report, 'fail')).toEqual(mutant.failsAt)
  })

  it('names of mutants are told apart', () => {
    expect(new Set(MUTANTS.map(({ name }) => name)).size).toBe(MUTANTS.length)
  })
})

it('a backend that breaks down fails every level that it is used at, and no level is left out', async () => {
  const broken = {
    ...referenceBackend(),
    delta: () => Promise.reject(new Error('the device was lost')),
    linear: () => Promise.reject(new Error('the device was lost')),
  }
  const report = await runConformance(broken, { quick: true, vectors })
  expect(levelsWith(report, 'fail')).toEqual([1, 3, 4, 5, 6, 7, 8])
  expect(report.levels.find(({ level }) => level === 4)?.reason).toContain('the device was lost')
})
