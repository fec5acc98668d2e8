/** `readRows`: data in all forms that `train` accepts → rows in memory. A row may still be anything; tasks check them. */
import { FourierFTError, parseJson } from '@fourierft/core'
import { platform } from '#platform'

type Rows = Iterable<unknown> | AsyncIterable<unknown>

/** Rows: in memory, from a function, or in a file of JSON lines or CSV (a path, a URL, a `File` or a `Blob`). */
export type Data = Rows | (() => Rows | Promise<Rows>) | string | URL | Blob

export type DataFormat = 'jsonl' | 'csv'

export interface ReadRowsOptions {
  /** The name of the option that has the data, for errors. Default: `data`. */
  readonly option?: string
  /** The format of a file. Default: by its extension (`.jsonl`, `.ndjson`, `.csv`) or its media type. */
  readonly format?: DataFormat
  /** The most bytes of a file. Default: 256 MiB. */
  readonly maxBytes?: number
  readonly signal?: AbortSignal
}

const MAX_BYTES = 2 ** 28
/** The most characters of a row in a file. */
const MAX_ROW = 2 ** 24
/** The most rows: an iterable may never end. */
const MAX_ROWS = 2 ** 24

/**
 * @throws {FourierFTError} `INVALID_OPTION` for data of another kind, without rows, in another encoding than UTF-8, or malformed, with the row;
 *   `FILE_NOT_FOUND`, `FILE_TOO_LARGE` and `IO_ERROR` for files; `UNSUPPORTED` for paths in browsers. An abort throws the signal's reason
 */
export async function readRows(data: Data, options: ReadRowsOptions = {}): Promise<readonly unknown[]> {
  const { option = 'data', signal } = options
  signal?.throwIfAborted()
  const rows = isFile(data)
    ? await readFile(data, options)
    : await collect(typeof data === 'function' ? await data() : data, option, signal)
  if (rows.length > 0) return rows
  throw new FourierFTError('INVALID_OPTION', `${option}: there are no rows`, { option, received: rows })
}

function isFile(data: unknown): data is string | URL | Blob {
  return typeof data === 'string' || data instanceof URL || data instanceof Blob
}

async function collect(data: unknown, option: string, signal: AbortSignal | undefined): Promise<unknown[]> {
  const isObject = typeof data === 'object' && data !== null
  if (!isObject || !(Symbol.iterator in data || Symbol.asyncIterator in data))
    throw new FourierFTError(
      'INVALID_OPTION',
      `${option}: expected rows (an array, an iterable, or a function that returns one), or a file (a path, a URL or a File); received ${
        isObject ? 'an object' : String(data)
      }`,
      { option, received: data },
    )
  const rows: unknown[] = []
  for await (const row of data as AsyncIterable<unknown>) {
    signal?.throwIfAborted()
    rows.push(row)
    if (rows.length > MAX_ROWS)
      throw new FourierFTError('INVALID_OPTION', `${option}: there are more than ${MAX_ROWS} rows`, {
        option,
        expected: MAX_ROWS,
      })
  }
  return rows
}

interface DataFile {
  readonly name: string
  readonly mediaType: string
  read(maxBytes: number, signal: AbortSignal | undefined): Promise<Uint8Array>
}

async function readFile(data: string | URL | Blob, options: ReadRowsOptions): Promise<unknown[]> {
  const { option = 'data', maxBytes = MAX_BYTES, signal } = options
  const file = openFile(data)
  const format = options.format ?? formatOf(file, option)
  if (format !== 'jsonl' && format !== 'csv')
    throw new FourierFTError('INVALID_OPTION', `format: expected jsonl or csv; received ${String(format)}`, {
      option: 'format',
      expected: ['jsonl', 'csv'],
      received: format,
    })
  const bytes = await file.read(maxBytes, signal)
  return format === 'jsonl' ? parseLines(bytes, file.name) : parseCsv(bytes, file.name)
}

function openFile(data: string | URL | Blob): DataFile {
  if (data instanceof Blob) {
    const name = 'name' in data && typeof data.name === 'string' ? data.name : 'the file'
    return {
      name,
      mediaType: data.type,
      async read(maxBytes) {
        if (data.size > maxBytes) throw tooLarge(name, maxBytes)
        return new Uint8Array(await data.arrayBuffer())
      },
    }
  }
  const isUrl = data instanceof URL ? data.protocol !== 'file:' : /^(https?|blob|data):/i.test(data)
  const name = data instanceof URL || isUrl ? shortUrl(String(data)) : data
  return {
    name,
    mediaType: '',
    read: (maxBytes, signal) =>
      isUrl ? download(String(data), name, maxBytes, signal) : platform.readDataFile(data, maxBytes),
  }
}

/** A URL without its query, which may contain a key. */
function shortUrl(url: string): string {
  return url.replace(/[?#].*$/s, '')
}

function formatOf({ name, mediaType }: DataFile, option: string): DataFormat {
  if (/\.(jsonl|ndjson)$/i.test(name) || /\b(jsonl|ndjson|x-ndjson|json-lines)\b/.test(mediaType))
    return 'jsonl'
  if (/\.csv$/i.test(name) || /\bcsv\b/.test(mediaType)) return 'csv'
  throw new FourierFTError('INVALID_OPTION', `${option}: the name of ${name} does not tell its format`, {
    option,
    file: name,
    advice: 'give the option format: jsonl or csv',
  })
}

async function download(
  url: string,
  name: string,
  maxBytes: number,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  const failed = (reason: string, cause?: unknown) =>
    new FourierFTError('IO_ERROR', `${name} could not be read: ${reason}`, { file: name, cause })
  try {
    const response = await fetch(url, { ...(signal && { signal }) })
    if (response.status === 404)
      throw new FourierFTError('FILE_NOT_FOUND', `${name}: there is no such file`, { file: name })
    if (!response.ok) throw failed(`status ${response.status}`)
    if (Number(response.headers.get('content-length')) > maxBytes) throw tooLarge(name, maxBytes)
    const parts: Uint8Array[] = []
    let length = 0
    const reader = response.body?.getReader()
    for (let part = await reader?.read(); part?.value !== undefined; part = await reader?.read()) {
      length += part.value.length
      if (length > maxBytes) {
        await reader?.cancel()
        throw tooLarge(name, maxBytes)
      }
      parts.push(part.value)
    }
    const bytes = new Uint8Array(length)
    let position = 0
    for (const part of parts) {
      bytes.set(part, position)
      position += part.length
    }
    return bytes
  } catch (cause) {
    signal?.throwIfAborted()
    throw FourierFTError.isInstance(cause) ? cause : failed((cause as Error).message, cause)
  }
}

function tooLarge(file: string, maxBytes: number): FourierFTError {
  return new FourierFTError('FILE_TOO_LARGE', `${file}: it has more than ${maxBytes} bytes`, {
    file,
    expected: maxBytes,
  })
}

const NEWLINE = 0x0a

/** One JSON object for each line; empty lines do not count. */
function parseLines(bytes: Uint8Array, file: string): unknown[] {
  const rows: unknown[] = []
  let line = 0
  for (const { text } of linesOf(bytes, file)) {
    line++
    if (text.trim() === '') continue
    const where = `${file}, line ${line}`
    if (text.length > MAX_ROW) throw rowTooLarge(where, file, rows.length)
    const row = parseRow(text, where, file, rows.length)
    if (typeof row !== 'object' || row === null || Array.isArray(row))
      throw malformed(where, 'expected a JSON object', file, rows.length)
    rows.push(row)
  }
  return rows
}

function parseRow(text: string, where: string, file: string, row: number): unknown {
  try {
    return parseJson(text, where)
  } catch (cause) {
    const problem = FourierFTError.isInstance(cause) ? cause.problem : String(cause)
    throw malformed(where, problem.replace(`${where}: `, ''), file, row, { cause })
  }
}

/** The lines of a file, without their ends and a byte order mark. */
function* linesOf(bytes: Uint8Array, file: string): Generator<{ readonly text: string }> {
  rejectUtf16(bytes, file)
  // Removes a byte order mark at the start of each line; only the first line can have one.
  const decoder = new TextDecoder('utf-8', { fatal: true })
  let line = 0
  for (let start = 0; start < bytes.length; ) {
    const newline = bytes.indexOf(NEWLINE, start)
    const end = newline < 0 ? bytes.length : newline
    line++
    let text: string
    try {
      text = decoder.decode(bytes.subarray(start, end))
    } catch (cause) {
      throw malformed(`${file}, line ${line}`, 'it is not UTF-8 text', file, line - 1, {
        advice: 'save the file as UTF-8',
        cause,
      })
    }
    yield { text }
    start = end + 1
  }
}

function rejectUtf16([first, second]: Uint8Array, file: string): void {
  if ((first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff))
    throw malformed(file, 'it is UTF-16 text', file, 0, { advice: 'save the file as UTF-8' })
}

/** One object for each record; the first record has the names of the columns. */
async function parseCsv(bytes: Uint8Array, file: string): Promise<unknown[]> {
  rejectUtf16(bytes, file)
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    // Finds the line.
    for (const _ of linesOf(bytes, file));
    throw cause
  }
  const parse = await platform.loadCsvParser()
  try {
    return parse(text, {
      columns: (names) => checkColumns(names, file),
      skip_empty_lines: true,
      max_record_size: MAX_ROW,
    }) as unknown[]
  } catch (cause) {
    if (FourierFTError.isInstance(cause)) throw cause
    const { code, message, lines, records = 0 } = cause as CsvError
    const where = lines === undefined ? file : `${file}, line ${lines}`
    if (code === 'CSV_MAX_RECORD_SIZE') throw rowTooLarge(where, file, records)
    throw malformed(where, message, file, records, { cause })
  }
}

/** The fields of csv-parse's errors. */
interface CsvError extends Error {
  readonly code?: string
  readonly lines?: number
  readonly records?: number
}

function checkColumns(names: string[], file: string): string[] {
  const seen = new Set<string>()
  for (const name of names) {
    if (name.trim() === '') throw malformed(file, 'a column has no name', file, 0)
    if (seen.has(name)) throw malformed(file, `two columns have the name "${name}"`, file, 0)
    seen.add(name)
  }
  return names
}

function rowTooLarge(where: string, file: string, row: number): FourierFTError {
  return new FourierFTError('FILE_TOO_LARGE', `${where}: the row has more than ${MAX_ROW} characters`, {
    file,
    row,
    expected: MAX_ROW,
  })
}

function malformed(
  where: string,
  problem: string,
  file: string,
  row: number,
  details: { readonly advice?: string; readonly cause?: unknown } = {},
): FourierFTError {
  return new FourierFTError('INVALID_OPTION', `${where}: ${problem}`, {
    option: 'data',
    file,
    row,
    ...details,
  })
}
