/**
 * The only error class of the project. `code` names the kind of error and never changes its meaning, `details` locate the problem, and
 * `advice` describes how to correct it. Programs branch on `code`; people read `message`.
 */

/** The kinds of errors. */
export type ErrorCode =
  /** An option or argument is missing, of the wrong type or out of its range. */
  | 'INVALID_OPTION'
  /** More entries are requested than the spectrum has positions, or n is not a positive integer. */
  | 'INVALID_ENTRY_COUNT'
  /** An entry lies outside `[0, d1) × [0, d2)`. */
  | 'ENTRY_OUT_OF_RANGE'
  /** The same entry occurs twice. */
  | 'DUPLICATE_ENTRY'
  /** Entries do not have the digest that the file states. */
  | 'ENTRIES_DIGEST_MISMATCH'
  /** A shape does not fit the tensor, layer or model that it is used with. */
  | 'SHAPE_MISMATCH'
  /** A shape is needed, but neither the file nor the caller gives it. PEFT's files never contain shapes. */
  | 'SHAPE_UNKNOWN'
  /** A number that must be finite is NaN or infinite. */
  | 'NOT_FINITE'
  /** A tensor has a dtype that the operation does not support. */
  | 'UNSUPPORTED_DTYPE'
  /** A safetensors file is malformed: header, offsets, dtype or length do not agree. */
  | 'INVALID_SAFETENSORS'
  /** A file is not an ONNX model, is truncated, or violates the ONNX specification. */
  | 'INVALID_ONNX'
  /** A JSON text is malformed or contains a forbidden key such as `__proto__`. */
  | 'INVALID_JSON'
  /** An adapter configuration does not fit the schema. */
  | 'INVALID_CONFIG'
  /** The adapter belongs to another method than FourierFT (LoRA, …). */
  | 'UNSUPPORTED_PEFT_TYPE'
  /** The file was written by a newer version of the format. */
  | 'UNSUPPORTED_FORMAT_VERSION'
  /** A regular expression is malformed or cannot be run in linear time. */
  | 'INVALID_PATTERN'
  /** A file of the adapter is not where it should be. */
  | 'FILE_NOT_FOUND'
  /** A file could not be read, fetched or written. */
  | 'IO_ERROR'
  /** A file is larger than the reader accepts. */
  | 'FILE_TOO_LARGE'
  /** No module of the model matches, or the named module does not exist. */
  | 'MODULE_NOT_FOUND'
  /** No adapter has that name. */
  | 'ADAPTER_NOT_FOUND'
  /** The name is already taken by another adapter. */
  | 'ADAPTER_EXISTS'
  /** The adapter cannot be written in the requested form. */
  | 'NOT_REPRODUCIBLE'
  /** The call does not fit the state of the object: merged, disposed, detached. */
  | 'INVALID_STATE'
  /** The runtime, backend or strategy is unknown or cannot do this. */
  | 'UNSUPPORTED'

/** The location of the problem, and the advice. Every field is optional. */
export interface ErrorDetails {
  /** How the caller can correct the error, as a sentence without a capital or a full stop: `give the shape with --shape OUT,IN`. */
  readonly advice?: string
  readonly file?: string
  readonly tensor?: string
  readonly module?: string
  readonly option?: string
  /** The position of a row in training data, from 0. */
  readonly row?: number
  readonly expected?: unknown
  readonly received?: unknown
  readonly cause?: unknown
}

/** Marks the errors of every copy of this package, because a program can load several copies. */
const MARKER = Symbol.for('fourierft.FourierFTError')

/** Thrown by every function of the project for bad input: branch on `code`, read `details`, show `message`. */
export class FourierFTError extends Error {
  override readonly name = 'FourierFTError'
  readonly code: ErrorCode
  /** The description of the error: `message` without the advice. */
  readonly problem: string
  /** How the caller can correct the error; undefined if `problem` says everything. */
  readonly advice: string | undefined
  readonly details: ErrorDetails

  /** @param problem the description of the error; `message` is the problem and, after a semicolon, `details.advice` */
  constructor(code: ErrorCode, problem: string, details: ErrorDetails = {}) {
    const { advice, cause } = details
    super(
      printable(advice === undefined ? problem : `${problem}; ${advice}`),
      cause === undefined ? undefined : { cause },
    )
    this.code = code
    this.problem = printable(problem)
    this.advice = advice === undefined ? undefined : printable(advice)
    this.details = details
    Object.defineProperty(this, MARKER, { value: true })
  }

  /** Checks whether `error` is a `FourierFTError` of any copy of this package. `instanceof` recognises only the errors of one copy. */
  static isInstance(error: unknown): error is FourierFTError {
    return error instanceof Error && MARKER in error
  }
}

/** Longest word (a name, a path, a list without spaces) and longest message that are shown in full. */
const MAX_WORD = 240
const MAX_MESSAGE = 4000

/**
 * Makes a text that contains names from outside safe to print. Characters that could move the cursor, hide a line or reverse the writing
 * direction are escaped as in JSON. The middle of long words and of long texts is left out. `details` keep the originals.
 */
export function printable(text: string): string {
  return escapeUnprintable(shorten(shortenWords(text), MAX_MESSAGE))
}

/** Escapes unprintable characters as in JSON, so that a string within JSON keeps its value. */
export function escapeUnprintable(text: string): string {
  return text.replace(
    UNPRINTABLE,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/** Shortens long words. Reads character by character, because a regular expression overflows the stack on a word of several megabytes. */
function shortenWords(text: string): string {
  if (text.length <= MAX_WORD) return text
  let short = ''
  let start = 0
  for (let i = 0; i <= text.length; i++) {
    if (i < text.length && text.charCodeAt(i) > SPACE) continue
    if (i - start > MAX_WORD) short += shorten(text.slice(start, i), MAX_WORD)
    else short += text.slice(start, i)
    short += text.slice(i, i + 1)
    start = i + 1
  }
  return short
}

const SPACE = 0x20
/** Control characters, line separators, and marks that reverse the writing direction. */
const UNPRINTABLE = /[\p{Cc}\u061c\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu

function shorten(text: string, length: number): string {
  if (text.length <= length) return text
  const end = Math.floor(length / 3)
  return `${text.slice(0, length - end - 1)}…${text.slice(-end)}`
}

/** Returns the error for a call that does not fit the state of an object. */
export function invalidState(problem: string, advice?: string): FourierFTError {
  return new FourierFTError('INVALID_STATE', problem, advice === undefined ? {} : { advice })
}

/** Returns the error for a name that no loaded adapter has. */
export function adapterNotFound(name: string, loadedNames: readonly string[]): FourierFTError {
  return new FourierFTError(
    'ADAPTER_NOT_FOUND',
    `there is no adapter '${name}'; loaded adapters: ${loadedNames.join(', ') || 'none'}`,
    { option: 'name', expected: loadedNames, received: name },
  )
}
