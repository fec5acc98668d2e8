/** The comparison detects a runtime with different results. */
import { describe, expect, it } from 'vitest'
import { baseFolder, readCheckpoint } from './checkpoint-files.js'
import { compareRuntimes, type RuntimeRun } from './runtime-comparison.js'
import { runtimeTable } from './runtime-table.js'

const { config } = await readCheckpoint(baseFolder)
/** Two digits, 3 and 1. The logits classify the second as 2. */
const digits = { count: 2, labels: Int32Array.of(3, 1), pixels: new Float32Array(2 * 784) }
const logits = (third = 9, last = 0) => {
  const all = new Float64Array(20)
  all.set([0, 0, 0, third], 0)
  all.set([0, 7, 8, 0, 0, 0, 0, 0, 0, last], 10)
  return all
}
const run = (runtime: string, values: ArrayLike<number> = logits()): RuntimeRun => ({
  runtime,
  logits: values,
  milliseconds: 0.5,
})
const compare = (other: RuntimeRun) =>
  compareRuntimes({ core: run('core'), trained: run('trained'), others: [other], digits, config })

describe('compareRuntimes', () => {
  it('agrees if nothing differs', () => {
    expect(compare(run('other'))).toMatchObject(
      ['core', 'trained', 'other'].map((runtime) => ({
        runtime,
        accuracy: 0.5,
        sameLabels: 2,
        difference: 0,
        agrees: true,
      })),
    )
  })

  it('allows rounding only', () => {
    const [, , near] = compare(run('near', logits(9.0001)))
    expect(near).toMatchObject({ sameLabels: 2, agrees: true })
    const [, , far] = compare(run('far', logits(9.01)))
    expect(far).toMatchObject({ sameLabels: 2, agrees: false })
  })

  it('disagrees if one label differs, however small the difference of the logits is', () => {
    const close = (value: number) => run('other', logits(9, value))
    const [core, trained] = [close(8 - 1e-6), close(8 + 1e-6)]
    const [row] = compareRuntimes({ core, trained, others: [], digits, config })
    expect(row).toMatchObject({ sameLabels: 1, agrees: false })
  })

  it('disagrees if logits are NaN or missing', () => {
    expect(compare(run('other', logits(Number.NaN))).at(-1)).toMatchObject({ agrees: false })
    expect(compare(run('other', logits().subarray(0, 10))).at(-1)).toMatchObject({ agrees: false })
  })
})

describe('runtimeTable', () => {
  it('has a row for each runtime, and the reason for a missing one', () => {
    const missing = { runtime: 'Elsewhere', reason: 'it is not installed' }
    const options = { core: run('core'), trained: run('trained'), digits, config }
    const lines = runtimeTable(compareRuntimes({ ...options, others: [missing] }), 2, 7800).split('\n')
    expect(lines).toHaveLength(4)
    expect(lines[1]).toMatch(/^core +7\.8 KB +50\.0 % +2 of 2 +– +– +0\.50 ms$/)
    expect(lines[2]).toMatch(/^trained +7\.8 KB +50\.0 % +2 of 2 +0\.0e\+0 +\d\.\de-\d +0\.50 ms$/)
    expect(lines[3]).toBe('Elsewhere: not run (it is not installed)')
  })
})
