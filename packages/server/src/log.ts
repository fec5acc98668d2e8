/** Structured logs: one JSON object for each request. They name the route and the adapter, never what a request contains. */
import { FourierFTError } from '@fourierft/core'
import { pino } from 'pino'
import { ServerError } from './errors.js'

/** What the server needs of a logger: pino has it, and so have most others. */
export interface Logger {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

const SILENT: Logger = { info() {}, warn() {}, error() {} }

/** Returns the given logger, pino on stdout if none is given, or one that writes nothing for `false`. */
export function openLogger(logger: Logger | false | undefined): Logger {
  if (logger === false) return SILENT
  return logger ?? pino({ base: null, timestamp: pino.stdTimeFunctions.isoTime })
}

/** Codes of errors whose messages name files and states, and never repeat what a request contains. */
const SAFE_CODES: ReadonlySet<string> = new Set([
  'IO_ERROR',
  'FILE_NOT_FOUND',
  'INVALID_ONNX',
  'INVALID_STATE',
  'UNSUPPORTED',
  'deadline_exceeded',
  'shutting_down',
])

/**
 * An error without what could hold a request's contents: its name, its code and where it was thrown, and the same of its causes. Messages are left out, because those of
 * ONNX Runtime quote numbers of its inputs; only some of the project's own stay.
 */
export function describeForLog(error: unknown, depth = 0): object {
  if (!(error instanceof Error)) return { type: typeof error }
  const { name, cause } = error
  const isSafe =
    (error instanceof ServerError || FourierFTError.isInstance(error)) && SAFE_CODES.has(error.code)
  const code = 'code' in error && typeof error.code === 'string' ? { code: error.code } : {}
  return {
    name,
    ...code,
    ...(isSafe && { message: error.message }),
    stack: framesOf(error),
    ...(cause !== undefined && depth < 4 && { cause: describeForLog(cause, depth + 1) }),
  }
}

/** The stack without the message at its beginning. */
function framesOf({ stack = '', message }: Error): string {
  return stack
    .replace(message, () => '')
    .split('\n')
    .filter((line) => FRAME.test(line))
    .join('\n')
}

const FRAME = /^ +at .*(:\d+:\d+\)?|\(<anonymous>\)|\(native\))$/
