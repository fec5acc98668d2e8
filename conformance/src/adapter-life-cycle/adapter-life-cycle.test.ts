import { expect, it } from 'vitest'
import { testAdapters } from '../vitest.js'
import { MUTANTS } from './mutants.js'
import { referenceSubjects } from './reference-subject.js'
import { Bench, runSituation, SITUATIONS } from './situations.js'

testAdapters(() => referenceSubjects())

it.for(MUTANTS)('the suite catches a model in which $fault', async ({ make, caughtBy }) => {
  const bench = await Bench.open(referenceSubjects(make), referenceSubjects())
  const failed: string[] = []
  for (const situation of SITUATIONS.filter(({ name }) => name.includes(caughtBy)))
    await runSituation(situation, bench).catch(() => failed.push(situation.name))
  expect(failed).not.toEqual([])
})
