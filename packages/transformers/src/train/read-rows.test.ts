import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, describe, expect, test } from 'vitest'
import { readRows } from './read-rows.js'

const folder = mkdtempSync(join(tmpdir(), 'fourierft-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

function write(name: string, content: string | Uint8Array): string {
  const path = join(folder, name)
  writeFileSync(path, content)
  return path
}

const rows = [
  { text: 'arrived “broken”', label: 'complaint' },
  { text: 'where is\nmy, parcel?', label: 'question' },
]
const JSONL = rows.map((row) => JSON.stringify(row)).join('\n')
const CSV = 'text,label\r\narrived “broken”,complaint\r\n"where is\nmy, parcel?",question\r\n'

async function expectError(
  promise: Promise<unknown>,
  expected: { code: string; message: RegExp; details?: object },
) {
  const error = await promise.then(
    () => undefined,
    (error: unknown) => error,
  )
  expect(error).toMatchObject({
    code: expected.code,
    message: expect.stringMatching(expected.message),
    details: expected.details ?? {},
  })
}

describe('rows in memory', () => {
  test.each([
    ['an array', () => rows],
    ['an iterable', () => new Set(rows)],
    ['a generator', () => rows.values()],
    [
      'an async iterable',
      () =>
        (async function* () {
          yield* rows
        })(),
    ],
    ['a function', () => () => rows],
    ['an async function', () => async () => rows],
  ])('%s', async (_, dataOf) => {
    expect(await readRows(dataOf())).toEqual(rows)
  })

  test.each([
    ['no rows', []],
    ['a number', 3],
    ['an object', { text: 'a' }],
    ['null', null],
  ])('%s: rejected', async (_, data) => {
    await expectError(readRows(data as never, { option: 'evaluation' }), {
      code: 'INVALID_OPTION',
      message: /^evaluation: /,
      details: { option: 'evaluation' },
    })
  })

  test('an abort ends the reading', async () => {
    const controller = new AbortController()
    const endless = function* () {
      for (let i = 0; ; i++) {
        if (i === 10) controller.abort(new Error('enough'))
        yield rows[0]
      }
    }
    await expect(readRows(endless, { signal: controller.signal })).rejects.toThrow('enough')
  })
})

describe('files', () => {
  const jsonl = write('rows.jsonl', `\ufeff${JSONL}\n\n`)
  const csv = write('rows.csv', `\ufeff${CSV}`)

  test.each([
    ['JSON lines with a byte order mark and an empty line', jsonl],
    ['CSV with a byte order mark, quotes and CRLF', csv],
    ['a file URL', pathToFileURL(jsonl)],
    ['a URL of data', `data:text/csv;charset=utf-8,${encodeURIComponent(CSV)}`],
    ['a File', new File([CSV], 'rows.csv')],
    ['a Blob with a media type', new Blob([CSV], { type: 'text/csv' })],
  ])('%s', async (name, data) => {
    expect(await readRows(data, name.includes('URL of data') ? { format: 'csv' } : {})).toEqual(rows)
  })

  test('a URL; the limit of bytes also applies to answers that do not tell their length', async () => {
    const server = createServer((request, response) => {
      if (request.url === '/missing.jsonl') response.writeHead(404).end()
      else if (request.url === '/broken.jsonl') response.writeHead(500).end()
      else response.write(JSONL, () => response.end())
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    try {
      expect(await readRows(new URL(`${url}/rows.jsonl?token=secret`))).toEqual(rows)
      await expectError(readRows(`${url}/rows.jsonl?token=secret`, { maxBytes: 20 }), {
        code: 'FILE_TOO_LARGE',
        message: /^http:[^?]*rows\.jsonl: .* 20 bytes$/,
      })
      await expectError(readRows(`${url}/missing.jsonl`), { code: 'FILE_NOT_FOUND', message: /missing/ })
      await expectError(readRows(`${url}/broken.jsonl`), { code: 'IO_ERROR', message: /status 500/ })
    } finally {
      server.close()
    }
  })

  test.each([
    [
      'JSON that is malformed',
      write('a.jsonl', '{"text":"a"}\n\n{"text":}\n'),
      { message: /a\.jsonl, line 3: /, details: { row: 1 } },
    ],
    [
      'a line that is not an object',
      write('b.jsonl', '{"text":"a"}\n["b"]\n'),
      { message: /line 2: expected a JSON object/, details: { row: 1 } },
    ],
    [
      'a prototype',
      write('c.jsonl', '{"__proto__":{"text":"a"}}\n'),
      { message: /line 1: .*forbidden prototype/ },
    ],
    [
      'another encoding in JSON lines',
      write('d.jsonl', Buffer.from('{"text":"a"}\n{"text":"\xfc"}', 'latin1')),
      { message: /line 2: it is not UTF-8 text; save the file as UTF-8/, details: { row: 1 } },
    ],
    [
      'another encoding in CSV',
      write('d.csv', Buffer.from('text\na\n\xfc\n', 'latin1')),
      { message: /line 3: it is not UTF-8/ },
    ],
    ['UTF-16', write('e.csv', Buffer.from('\ufefftext,label\na,b\n', 'utf16le')), { message: /UTF-16/ }],
    [
      'a record with fewer fields',
      write('f.csv', 'text,label\na,b\nc\n'),
      { message: /f\.csv, line 3: /, details: { row: 1 } },
    ],
    [
      'a quote that does not end',
      write('g.csv', 'text,label\na,b\n"c,d\n'),
      { message: /g\.csv, line \d: .*[Qq]uote/ },
    ],
    ['two columns of one name', write('h.csv', 'text,text\na,b\n'), { message: /two columns .*"text"/ }],
    ['no extension', write('rows', JSONL), { message: /format; give the option format/ }],
    ['no rows', write('i.csv', 'text,label\n'), { message: /there are no rows/ }],
  ])('%s: rejected', async (_, path, expected) => {
    await expectError(readRows(path), { code: 'INVALID_OPTION', ...expected })
  })

  test('files that are missing, too large, or no files', async () => {
    await expectError(readRows(join(folder, 'none.csv')), { code: 'FILE_NOT_FOUND', message: /none\.csv/ })
    await expectError(readRows(csv, { maxBytes: 10 }), { code: 'FILE_TOO_LARGE', message: /rows\.csv/ })
    await expectError(readRows(new File([CSV], 'a.csv'), { maxBytes: 10 }), {
      code: 'FILE_TOO_LARGE',
      message: /a\.csv/,
    })
    await expectError(readRows(folder, { format: 'csv' }), { code: 'IO_ERROR', message: /not a file/ })
    await expectError(readRows('/dev/zero', { format: 'csv' }), { code: 'IO_ERROR', message: /not a file/ })
  })

  test('a row that is too large', async () => {
    const long = 'x'.repeat(2 ** 24 + 1)
    await expectError(readRows(new File([`{"text":"${long}"}`], 'a.jsonl')), {
      code: 'FILE_TOO_LARGE',
      message: /line 1/,
    })
  })
})
