/**
 * Reads JSON strictly, for untrusted texts: configurations and safetensors headers. It rejects more than `JSON.parse` (duplicate keys,
 * prototypes, large texts), and checks the limits before it builds any value. `JSON.parse` checks the grammar, secure-json-parse the rules
 * about prototypes.
 */
import secureJson from 'secure-json-parse'
import { FourierFTError } from '../errors.js'

export interface JsonLimits {
  /** UTF-16 units of the text. Default 100 million, the limit of the safetensors format for a header. */
  readonly maxLength?: number
  /** Depth of nested arrays and objects. Default 64. */
  readonly maxDepth?: number
  /** Number of all arrays, objects and members, so that a small text cannot become gigabytes of objects. Default 200,000. */
  readonly maxValues?: number
}

/**
 * Parses a JSON text, or its UTF-8 bytes, in linear time. The objects of the result have a prototype: read them with `Object.hasOwn` and
 * `Object.entries`, never with `in` or a bare lookup, because a key may be `constructor` or `toString` (a module can have that name).
 *
 * @param file name of the file in errors
 * @throws FourierFTError INVALID_JSON for invalid grammar, a duplicate key, `__proto__` or `constructor.prototype`, or an exceeded limit
 */
export function parseJson(json: string | Uint8Array, file: string, limits: JsonLimits = {}): unknown {
  const text = typeof json === 'string' ? json : decodeUtf8(json, file)
  checkStructure(text, file, limits)
  try {
    return secureJson.parse(text)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw invalid(file, `it is not JSON that can be read safely: ${reason}`, cause)
  }
}

/**
 * Decodes UTF-8. Keeps a byte order mark, which JSON then rejects.
 *
 * @throws FourierFTError INVALID_JSON if the bytes are not UTF-8
 */
export function decodeUtf8(bytes: Uint8Array, file: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (cause) {
    throw invalid(file, 'it is not UTF-8 text', cause)
  }
}

/**
 * Yields the members of a JSON object as source text, in the order of the file. The caller checks each value before the next one is read, so
 * the first error ends the check, and only the values that the caller keeps stay in memory. The text preserves details that `JSON.parse`
 * loses: the order of keys such as `"7"`, the digits of integers beyond 2⁵³, and whether a number was written `1` or `1.0`.
 *
 * Only the grammar of the object itself is checked. The grammar of a value is checked when the caller passes it to {@link parseJson}.
 *
 * @throws FourierFTError INVALID_JSON if the text is not an object, a key occurs twice or is `__proto__`, or a limit is exceeded
 */
export function* jsonMembers(
  text: string,
  file: string,
  { maxLength = MAX_LENGTH, maxDepth = MAX_DEPTH, maxValues = MAX_VALUES }: JsonLimits = {},
): Generator<readonly [key: string, literal: string], void> {
  checkText(text, file, maxLength)
  const keys = new Set<string>()
  let i = skipSpace(text, 0)
  const expect = (code: number): void => {
    if (text.charCodeAt(i) !== code) throw notJson(file, text, i)
    i = skipSpace(text, i + 1)
  }
  expect(OPEN_BRACE)
  while (text.charCodeAt(i) !== CLOSE_BRACE) {
    if (keys.size > 0) expect(COMMA)
    if (text.charCodeAt(i) !== QUOTE) throw notJson(file, text, i)
    const endOfKey = stringEnd(text, i)
    const key = parseJson(text.slice(i, endOfKey), file) as string
    if (key === '__proto__') throw invalid(file, 'it contains the forbidden key "__proto__"')
    if (keys.has(key)) throw duplicateKey(file, key)
    keys.add(key)
    if (keys.size > maxValues) throw tooManyValues(file, maxValues)
    i = skipSpace(text, endOfKey)
    expect(COLON)
    const start = i
    i = valueEnd(text, i, file, maxDepth - 1)
    if (i === start) throw notJson(file, text, i)
    yield [key, text.slice(start, i)]
    i = skipSpace(text, i)
  }
  i = skipSpace(text, i + 1)
  if (i < text.length) throw notJson(file, text, i)
}

const MAX_LENGTH = 100_000_000
const MAX_DEPTH = 64
const MAX_VALUES = 200_000

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COMMA = 0x2c
const COLON = 0x3a
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const SPACE = 0x20

/** Checks size, depth and duplicate keys in the text. The parser, which runs next, checks the grammar. */
function checkStructure(text: string, file: string, limits: JsonLimits): void {
  const { maxLength = MAX_LENGTH, maxDepth = MAX_DEPTH, maxValues = MAX_VALUES } = limits
  checkText(text, file, maxLength)
  // The keys of each open object, undefined before its first key; null for an open array.
  const open: (Set<string> | undefined | null)[] = []
  let values = 0
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (c === QUOTE) {
      const end = stringEnd(text, i)
      if (open.length > 0 && open.at(-1) !== null && isFollowedByColon(text, end)) {
        const keys = open.at(-1) ?? new Set<string>()
        open[open.length - 1] = keys
        const key = decodeKey(text.slice(i, end))
        if (keys.has(key)) throw duplicateKey(file, key)
        keys.add(key)
      }
      i = end - 1
    } else if (c === OPEN_BRACE || c === OPEN_BRACKET) {
      open.push(c === OPEN_BRACE ? undefined : null)
      if (open.length > maxDepth) throw invalid(file, `it is nested deeper than ${maxDepth} levels`)
      values++
    } else if (c === CLOSE_BRACE || c === CLOSE_BRACKET) {
      open.pop()
    } else if (c === COMMA) {
      values++
    }
    if (values > maxValues) throw tooManyValues(file, maxValues)
  }
}

function checkText(text: string, file: string, maxLength: number): void {
  if (text.length > maxLength) {
    throw invalid(file, `it has ${text.length} characters; the limit is ${maxLength}`)
  }
  // secure-json-parse silently drops a byte order mark; PEFT rejects it.
  if (text.charCodeAt(0) === 0xfeff) throw invalid(file, 'it begins with a byte order mark')
}

/** Returns the index after the value that begins at `start`. Only counts brackets; the parser checks the content. */
function valueEnd(text: string, start: number, file: string, maxDepth: number): number {
  let depth = 0
  for (let i = start; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (c === QUOTE) {
      i = stringEnd(text, i) - 1
      if (depth === 0) return i + 1
    } else if (c === OPEN_BRACE || c === OPEN_BRACKET) {
      if (++depth > maxDepth) throw invalid(file, `it is nested deeper than ${maxDepth + 1} levels`)
    } else if (c === CLOSE_BRACE || c === CLOSE_BRACKET) {
      if (depth === 0) return i
      if (--depth === 0) return i + 1
    } else if (depth === 0 && (c === COMMA || isSpace(c))) {
      return i
    }
  }
  return text.length
}

function skipSpace(text: string, start: number): number {
  let i = start
  while (isSpace(text.charCodeAt(i))) i++
  return i
}

function isSpace(c: number): boolean {
  return c === SPACE || c === 0x09 || c === 0x0a || c === 0x0d
}

/** Returns the index after the closing quote of the string that opens at `start`, or the end of the text. */
function stringEnd(text: string, start: number): number {
  for (let i = start + 1; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (c === BACKSLASH) i++
    else if (c === QUOTE) return i + 1
  }
  return text.length
}

function isFollowedByColon(text: string, start: number): boolean {
  return text.charCodeAt(skipSpace(text, start)) === COLON
}

/** Returns the value of a key: `"a"` and `"\u0061"` are the same key. The parser rejects malformed keys later. */
function decodeKey(literal: string): string {
  if (!literal.includes('\\')) return literal.slice(1, -1)
  try {
    return JSON.parse(literal)
  } catch {
    return literal
  }
}

function duplicateKey(file: string, key: string): FourierFTError {
  return invalid(file, `the key ${JSON.stringify(key)} occurs twice in one object`)
}

function tooManyValues(file: string, maxValues: number): FourierFTError {
  return invalid(file, `it contains more than ${maxValues} values`)
}

function notJson(file: string, text: string, position: number): FourierFTError {
  const found = position < text.length ? JSON.stringify(text.charAt(position)) : 'end of text'
  return invalid(file, `it is not JSON that can be read safely: unexpected ${found} at position ${position}`)
}

function invalid(file: string, problem: string, cause?: unknown): FourierFTError {
  return new FourierFTError('INVALID_JSON', `${file} cannot be used: ${problem}`, { file, cause })
}
