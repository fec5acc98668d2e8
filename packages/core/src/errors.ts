/**
 * The one error class of the project. `code` says what is wrong and never changes its meaning, `details` say where, and `advice` says
 * what to do. Programs branch on `code`; people read `message`.
 */

/** Each thing that can be wrong, with what its message explains. */
export type ErrorCode =
  /** An option or argument is missing, of the wrong type or out of its range. */
  | 'INVALID_OPTION'
  /** More entries were asked for than the spectrum has places, or n is not a positive integer. */
  | 'INVALID_ENTRY_COUNT'
  /** An entry lies outside `[0, d1) × [0, d2)`. */
  | 'ENTRY_OUT_OF_RANGE'
  /** The same entry occurs twice. */
  | 'DUPLICATE_ENTRY'
  /** Stored entries do not have the digest that the file promises. */
  | 'ENTRIES_DIGEST_MISMATCH'
  /** A shape does not fit the tensor, layer or model that it is used with. */
  | 'SHAPE_MISMATCH'
  /** A shape is needed (a PEFT file holds none) and nobody gave it. */
  | 'SHAPE_UNKNOWN'
  /** A number that has to be finite is NaN or infinite. */
  | 'NOT_FINITE'
  /** A tensor has a dtype that cannot be used here. */
  | 'UNSUPPORTED_DTYPE'
  /** A safetensors file is malformed: header, offsets, dtype or length do not agree. */
  | 'INVALID_SAFETENSORS'
  /** A file is no ONNX model, is cut off, or breaks ONNX's own rules. */
  | 'INVALID_ONNX'
  /** A JSON text is malformed or holds a forbidden key such as `__proto__`. */
  | 'INVALID_JSON'
  /** An adapter configuration does not fit the schema. */
  | 'INVALID_CONFIG'
  /** The adapter is of another method (LoRA, …) than FourierFT. */
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
  /** There is no adapter of that name. */
  | 'ADAPTER_NOT_FOUND'
  /** The name is already taken by another adapter. */
  | 'ADAPTER_EXISTS'
  /** The adapter cannot be written in the form that was asked for. */
  | 'NOT_REPRODUCIBLE'
  /** The call does not fit the state of the object: merged, disposed, detached. */
  | 'INVALID_STATE'
  /** The runtime, backend or strategy is unknown or cannot do this. */
  | 'UNSUPPORTED'

/** Where the problem is and what to do about it. Every field is optional, and `message` mentions it too. */
export interface ErrorDetails {
  /** What the caller can do, as a sentence without a capital or a full stop: `give the shape with --shape OUT,IN`. */
  readonly advice?: string
  readonly file?: string
  readonly tensor?: string
  readonly module?: string
  readonly option?: string
  readonly expected?: unknown
  readonly received?: unknown
  readonly cause?: unknown
}

/** Marks errors of every copy of this package: a program can hold several. */
const MARKER = Symbol.for('fourierft.FourierFTError')

/** What every function of the project throws for bad input: branch on `code`, read `details`, show `message`. */
export class FourierFTError extends Error {
  override readonly name = 'FourierFTError'
  readonly code: ErrorCode
  /** What is wrong: `message` without the advice. */
  readonly problem: string
  /** What the caller can do; undefined if there is nothing to add to the problem. */
  readonly advice: string | undefined
  readonly details: ErrorDetails

  /** @param problem what is wrong; `message` is this and, after a semicolon, `details.advice` */
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

  /** Whether `error` is a `FourierFTError` of any copy of this package. `instanceof` knows only the errors of one copy. */
  static isInstance(error: unknown): error is FourierFTError {
    return error instanceof Error && MARKER in error
  }
}

/** What a line of a message holds of one word (a name, a path, a list without spaces) and in all. */
const MAX_WORD = 240
const MAX_MESSAGE = 4000

/**
 * A text with names from outside, fit to be read and printed: what could move the cursor, hide a line or turn the direction of writing is
 * escaped as in JSON, and what is too long to be read loses its middle. `details` keep what was received as it is.
 */
export function printable(text: string): string {
  return escapeUnprintable(shortened(withShortWords(text), MAX_MESSAGE))
}

/** A text with its unprintable characters escaped as in JSON, so that a string within JSON keeps its value. */
export function escapeUnprintable(text: string): string {
  return text.replace(
    UNPRINTABLE,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/** Word by word: a regular expression runs out of stack on a word of megabytes. */
function withShortWords(text: string): string {
  if (text.length <= MAX_WORD) return text
  let short = ''
  let start = 0
  for (let i = 0; i <= text.length; i++) {
    if (i < text.length && text.charCodeAt(i) > SPACE) continue
    if (i - start > MAX_WORD) short += shortened(text.slice(start, i), MAX_WORD)
    else short += text.slice(start, i)
    short += text.slice(i, i + 1)
    start = i + 1
  }
  return short
}

const SPACE = 0x20
/** Control characters, line separators, and marks that turn the direction of writing. */
const UNPRINTABLE = /[\p{Cc}\u061c\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu

function shortened(text: string, length: number): string {
  if (text.length <= length) return text
  const end = Math.floor(length / 3)
  return `${text.slice(0, length - end - 1)}…${text.slice(-end)}`
}

/** The error of a call that does not fit the state of an object. */
export function invalidState(problem: string, advice?: string): FourierFTError {
  return new FourierFTError('INVALID_STATE', problem, advice === undefined ? {} : { advice })
}

/** The error of a name that no loaded adapter has. */
export function adapterNotFound(name: string, known: readonly string[]): FourierFTError {
  return new FourierFTError(
    'ADAPTER_NOT_FOUND',
    `there is no adapter '${name}'; there is ${known.join(', ') || 'none'}`,
    { option: 'name', expected: known, received: name },
  )
}
