/** Data in a browser: files, URLs, and CSV, whose reader is another build there. */
import { expect, test } from 'vitest'
import { readRows } from '../../src/train/read-rows.js'

const rows = [
  { text: 'arrived “broken”', label: 'complaint' },
  { text: 'where is\nmy, parcel?', label: 'question' },
]
const CSV = '\ufefftext,label\r\narrived “broken”,complaint\r\n"where is\nmy, parcel?",question\r\n'
const JSONL = rows.map((row) => JSON.stringify(row)).join('\n')

test('reads files and URLs', async () => {
  expect(await readRows(new File([CSV], 'rows.csv'))).toEqual(rows)
  expect(await readRows(new File([JSONL], 'rows.jsonl'))).toEqual(rows)
  const url = URL.createObjectURL(new Blob([CSV]))
  expect(await readRows(url, { format: 'csv' })).toEqual(rows)
  expect(await readRows(new URL(url), { format: 'csv' })).toEqual(rows)
})

test('rejects malformed CSV with the line, and paths', async () => {
  await expect(readRows(new File(['text,label\na,b\nc\n'], 'rows.csv'))).rejects.toMatchObject({
    code: 'INVALID_OPTION',
    message: expect.stringMatching(/^rows\.csv, line 3: /),
    details: { row: 1 },
  })
  await expect(readRows('./rows.csv')).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    message: expect.stringMatching(/give a File, or a URL/),
  })
})
