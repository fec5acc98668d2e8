import { expect, test } from 'vitest'
import { createBatches } from './batches.js'

const lengths = Array.from({ length: 103 }, (_, i) => ((i * 37) % 90) + 1)
const examples = lengths.map((length, index) => ({ length, cut: 0, index }))

async function epochOf(epoch: number, { size = 8, seed = 5 as number | null, rows = examples } = {}) {
  const batches: (typeof examples)[] = []
  const data = createBatches(rows, {
    size,
    seed: seed ?? undefined,
    collate: async (batch) => {
      batches.push([...batch])
      return { feeds: {} }
    },
  })
  let count = 0
  for await (const _ of data.batches(epoch)) count++
  expect(count).toBe(data.length)
  return batches
}

const paddingOf = (batches: (typeof examples)[]) =>
  batches.reduce((sum, batch) => {
    const longest = Math.max(...batch.map(({ length }) => length))
    return sum + batch.reduce((padding, { length }) => padding + longest - length, 0)
  }, 0)

test('an epoch has each row once, in batches of similar lengths', async () => {
  const batches = await epochOf(0)
  expect(batches.map(({ length }) => length).sort((a, b) => b - a)).toEqual([...Array(12).fill(8), 7])
  const indices = batches.flat().map(({ index }) => index)
  expect(indices).not.toEqual(examples.map(({ index }) => index))
  expect([...indices].sort((a, b) => a - b)).toEqual(examples.map(({ index }) => index))
  const unsorted = Array.from({ length: 13 }, (_, i) => examples.slice(i * 8, i * 8 + 8))
  expect(paddingOf(batches)).toBeLessThan(0.5 * paddingOf(unsorted))
})

test('seed + epoch determines the order', async () => {
  expect(await epochOf(1)).toEqual(await epochOf(1))
  expect(await epochOf(1)).toEqual(await epochOf(0, { seed: 6 }))
  expect(await epochOf(1)).not.toEqual(await epochOf(0))
  // The order is the same in each runtime: it is that of torch.randperm.
  const small = await epochOf(0, { size: 2, seed: 0, rows: examples.slice(0, 6) })
  expect(small.map((batch) => batch.map(({ index }) => index))).toMatchInlineSnapshot(`
    [
      [
        4,
        1,
      ],
      [
        2,
        5,
      ],
      [
        3,
        0,
      ],
    ]
  `)
})

test('an evaluation is sorted by length, the longest rows first', async () => {
  const batches = await epochOf(0, { seed: null })
  expect(batches).toEqual(await epochOf(3, { seed: null }))
  expect(batches.flat().map(({ length }) => length)).toEqual([...lengths].sort((a, b) => b - a))
})

test('few rows', async () => {
  expect(await epochOf(0, { rows: examples.slice(0, 1) })).toEqual([[examples[0]]])
  expect(await epochOf(0, { rows: [] })).toEqual([])
})
