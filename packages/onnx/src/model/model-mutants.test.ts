/** Broken models are rejected, or read and written back unchanged. */
import { expect, test } from 'vitest'
import { MODEL_NAMES, modelBytes } from '../__fixtures__/model-files.js'
import { mutate, randomIntegers } from '../__fixtures__/mutate.js'
import { rejectionCode, sampleModel } from '../__fixtures__/sample-model.js'

const MUTANTS = Number(process.env.FOURIERFT_MUTANTS ?? 2000)
/** The time depends on the number of mutants. */
const NO_LIMIT = 0

const sources = [...MODEL_NAMES.map(modelBytes), sampleModel()].filter(({ length }) => length < 60_000)

test(
  `${MUTANTS} mutated models are rejected with an error of this package, or keep their bytes`,
  () => {
    const random = randomIntegers(20261124)
    const faults = ['bit', 'byte', 'cut', 'omission', 'repetition', 'endless integer'] as const
    let rejections = 0
    for (let i = 0; i < MUTANTS; i++) {
      const mutant = mutate(sources[i % sources.length], random, { maxFaults: 4, faults })
      const code = rejectionCode(mutant)
      if (code !== undefined) rejections++
      // The same bytes at another alignment, in one of Node's own buffers.
      const offset = 1 + random(8)
      const pool = Buffer.alloc(mutant.length + offset)
      pool.set(mutant, offset)
      expect(rejectionCode(pool.subarray(offset))).toBe(code)
    }
    expect(rejections).toBeGreaterThan(0)
    expect(rejections).toBeLessThan(MUTANTS)
  },
  NO_LIMIT,
)
