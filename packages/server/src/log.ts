/** Structured logs: one JSON object for each request. They name the route and the adapter, never what a request contains. */
import { pino } from 'pino'

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

/** An error without the fields that could hold a request's contents: its name, code and stack, and the same of its causes. */
export function describeForLog(error: unknown, depth = 0): object {
  if (!(error instanceof Error)) return { type: typeof error }
  const { name, stack, cause } = error
  const code = 'code' in error && typeof error.code === 'string' ? { code: error.code } : {}
  return {
    name,
    ...code,
    stack,
    ...(cause !== undefined && depth < 4 && { cause: describeForLog(cause, depth + 1) }),
  }
}
