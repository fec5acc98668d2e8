import { expect, it } from 'vitest'
import { testAdapters } from '../vitest.js'
import { MUTANTS } from './mutants.js'
import { referenceSubjects } from './reference-subject.js'
import { PackageUnderTest, runSituation, SITUATIONS } from './situations.js'

testAdapters(() => referenceSubjects())

it.for(MUTANTS)('the suite catches a model in which $fault', async ({ make, caughtBy }) => {
  const tested = await PackageUnderTest.open(referenceSubjects(make), referenceSubjects())
  const failed: string[] = []
  for (const situation of SITUATIONS.filter(({ name }) => name.includes(caughtBy)))
    await runSituation(situation, tested).catch(() => failed.push(situation.name))
  expect(failed).not.toEqual([])
})
