/** Compares the integers of `uniformEntries` with those of PyTorch, which `make_uniform_vectors.py` recorded. */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { entriesDigest } from '../../src/entries/digest.js'
import { uniformEntries } from '../../src/entries/uniform.js'

interface Case {
  readonly shape: readonly [number, number]
  readonly n: number
  /** Decimal. */
  readonly seed: string
  readonly algorithm?: 'legacy'
  /** `[j, k]` of the first and of the last entry. */
  readonly first: readonly [number, number]
  readonly last: readonly [number, number]
  readonly sha256: string
}

const { versions, cases }: { versions: Record<string, string>; cases: Case[] } = JSON.parse(
  readFileSync(new URL('uniform-vectors.json', import.meta.url), 'utf8'),
)

/** Beyond the limit each case makes hundreds of millions of draws: `uniform-vectors.slow.test.ts` also runs these. */
const casesOfRun =
  process.env.FOURIERFT_ALL_CASES === undefined
    ? cases.filter(({ shape: [d1, d2], algorithm }) => algorithm === 'legacy' || d1 * d2 < 214748364)
    : cases

describe(`uniform entries of PyTorch ${versions.torch}`, () => {
  test('the vectors cover both algorithms, on both sides of their limit', () => {
    const sizes = cases.filter(({ algorithm }) => !algorithm).map(({ shape }) => shape[0] * shape[1])
    expect(sizes).toContain(214748363)
    expect(sizes).toContain(214748364)
  })

  test.each(casesOfRun.map((one) => [title(one), one] as const))('%s', (_, expected) => {
    const { shape, n, seed, algorithm } = expected
    const entries = uniformEntries({ shape, n, seed: BigInt(seed), ...(algorithm && { algorithm }) })
    expect([entries.rows[0], entries.columns[0]]).toEqual(expected.first)
    expect([entries.rows[n - 1], entries.columns[n - 1]]).toEqual(expected.last)
    expect(entriesDigest(entries)).toBe(expected.sha256)
  })
})

function title({ shape, n, seed, algorithm }: Case): string {
  return `${shape.join(' × ')}, n = ${n}, seed ${seed}${algorithm ? `, ${algorithm}` : ''}`
}
