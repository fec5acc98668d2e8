import { expect, test } from 'vitest'
import { eachRow } from './each-row.js'

/** Takes longer than the time after which events are handled. */
function slowly(row: number): number {
  for (const end = performance.now() + 40; performance.now() < end; );
  return 2 * row
}

test('encodes all rows in order, and tells the progress', async () => {
  const counts: number[] = []
  const encoded = await eachRow([1, 2, 3], slowly, { onProgress: (count) => counts.push(count) })
  expect(encoded).toEqual([2, 4, 6])
  expect(counts).toEqual([1, 2, 3, 3])
})

test('handles events between rows; an abort ends the encoding', async () => {
  const controller = new AbortController()
  setTimeout(() => controller.abort(new Error('enough')))
  let count = 0
  const rows = Array.from({ length: 100 }, (_, i) => i)
  const encoding = eachRow(rows, (row) => slowly(row + count++), { signal: controller.signal })
  await expect(encoding).rejects.toThrow('enough')
  expect(count).toBeLessThan(5)
  await expect(eachRow(rows, slowly, { signal: controller.signal })).rejects.toThrow('enough')
})

test('errors of tokenizers have the row', async () => {
  const encode = (row: number) => {
    if (row === 3) throw new RangeError('Maximum call stack size exceeded')
    return row
  }
  await expect(eachRow([1, 3], encode)).rejects.toMatchObject({
    code: 'INVALID_OPTION',
    message:
      'row 1 (from 0): the tokenizer or the processor of the pipeline fails: Maximum call stack size exceeded',
    details: { row: 1 },
  })
})
