/**
 * Strict JSON for texts from strangers: configurations and safetensors headers. Stricter than `JSON.parse` in what it lets through
 * (no duplicate keys, no prototypes, bounded size), and bounded before anything is built. Not a JSON implementation of its own: the
 * grammar is `JSON.parse`'s, the prototype rules are secure-json-parse's.
 */
import secureJson from 'secure-json-parse'
import { FourierFTError } from '../errors.js'

export interface JsonLimits {
  /** UTF-16 units of the text. Default 100 million, the bound of the safetensors format for a header. */
  readonly maxLength?: number
  /** Nested arrays and objects. Default 64. */
  readonly maxDepth?: number
  /** Arrays, objects and members in all, so that a small text cannot become gigabytes of objects. Default 4 million. */
  readonly maxValues?: number
}

/**
 * The value of a JSON text or of its UTF-8 bytes. Objects are ordinary ones: read them with `Object.hasOwn` and `Object.entries`, never with `in` or a bare
 * lookup, for a key may be `constructor` or `toString` (a module can have that name).
 *
 * Linear in the length of the text, whatever it holds.
 *
 * @param file names the file in errors
 * @throws FourierFTError INVALID_JSON: bad grammar, a duplicate key, `__proto__` or `constructor.prototype`, or a limit exceeded
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
 * @throws FourierFTError INVALID_JSON: the bytes are not UTF-8. A byte order mark is kept, for a caller to see (JSON refuses it).
 */
export function decodeUtf8(bytes: Uint8Array, file: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (cause) {
    throw invalid(file, 'it is not UTF-8 text', cause)
  }
}

/**
 * The members of a JSON object as source text, in the order of the file: what `JSON.parse` loses is the order of keys such as `"7"`,
 * the digits of integers beyond 2⁵³ and whether a number was written `1` or `1.0`.
 *
 * @param text a JSON object that {@link parseJson} has accepted
 */
export function objectMembers(text: string): Map<string, string> {
  const members = new Map<string, string>()
  let depth = 0
  let key: string | undefined
  let start = 0
  const close = (end: number): void => {
    if (key !== undefined) members.set(key, text.slice(start, end).trim())
    key = undefined
  }
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (c === QUOTE) {
      const end = stringEnd(text, i)
      if (depth === 1 && key === undefined) {
        key = JSON.parse(text.slice(i, end))
        start = text.indexOf(':', end) + 1
        i = start - 1
      } else {
        i = end - 1
      }
    } else if (c === OPEN_BRACE || c === OPEN_BRACKET) {
      depth++
    } else if (c === CLOSE_BRACE || c === CLOSE_BRACKET) {
      if (--depth === 0) close(i)
    } else if (c === COMMA && depth === 1) {
      close(i)
    }
  }
  return members
}

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COMMA = 0x2c
const COLON = 0x3a
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d

/** Size, depth and duplicate keys, on the text alone; the grammar is left to the parser, which runs next. */
function checkStructure(text: string, file: string, limits: JsonLimits): void {
  const { maxLength = 100_000_000, maxDepth = 64, maxValues = 4_000_000 } = limits
  if (text.length > maxLength) {
    throw invalid(file, `it has ${text.length} characters, the limit is ${maxLength}`)
  }
  // secure-json-parse would drop a byte order mark unseen; PEFT refuses it.
  if (text.charCodeAt(0) === 0xfeff) throw invalid(file, 'it begins with a byte order mark')
  // The keys of each open object; null for an array.
  const open: (Set<string> | null)[] = []
  let values = 0
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (c === QUOTE) {
      const end = stringEnd(text, i)
      const keys = open.at(-1)
      if (keys && followedByColon(text, end)) {
        const key = decode(text.slice(i, end))
        if (keys.has(key)) throw invalid(file, `the key ${JSON.stringify(key)} occurs twice in one object`)
        keys.add(key)
      }
      i = end - 1
    } else if (c === OPEN_BRACE || c === OPEN_BRACKET) {
      open.push(c === OPEN_BRACE ? new Set() : null)
      if (open.length > maxDepth) throw invalid(file, `it is nested deeper than ${maxDepth} levels`)
      values++
    } else if (c === CLOSE_BRACE || c === CLOSE_BRACKET) {
      open.pop()
    } else if (c === COMMA) {
      values++
    }
    if (values > maxValues) throw invalid(file, `it holds more than ${maxValues} values`)
  }
}

/** Index after the closing quote of the string that opens at `start`; the end of the text if there is none. */
function stringEnd(text: string, start: number): number {
  for (let i = start + 1; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (c === BACKSLASH) i++
    else if (c === QUOTE) return i + 1
  }
  return text.length
}

function followedByColon(text: string, from: number): boolean {
  let i = from
  while (i < text.length && text.charCodeAt(i) <= 0x20) i++
  return text.charCodeAt(i) === COLON
}

/** The string that a key denotes: `"a"` and `"\u0061"` are one key. A malformed one is left for the parser to reject. */
function decode(literal: string): string {
  if (!literal.includes('\\')) return literal.slice(1, -1)
  try {
    return JSON.parse(literal)
  } catch {
    return literal
  }
}

function invalid(file: string, problem: string, cause?: unknown): FourierFTError {
  return new FourierFTError('INVALID_JSON', `${file} cannot be used: ${problem}.`, { file, cause })
}
