/** What a command can fail with, and the exit status that stands for it. */
import { FourierFTError } from '@fourierft/core'

/** 0: done · 1: it failed · 2: the command line is wrong. */
export type ExitStatus = 0 | 1 | 2

/** A failure that is no `FourierFTError` of core's; `code` is printed in front of the message as core's codes are. */
export class CommandError extends Error {
  override readonly name = 'CommandError'
  readonly code: string
  readonly status: ExitStatus

  constructor(code: string, message: string, status: ExitStatus = 1) {
    super(message)
    this.code = code
    this.status = status
  }
}

/** The command line is wrong. */
export function usageError(message: string, code = 'USAGE'): CommandError {
  return new CommandError(code, message, 2)
}

/**
 * Runs `action`, all of whose arguments come from the command line alone: what core refuses there is a wrong command line, not a
 * failure.
 */
export function fromCommandLine<Result>(action: () => Result): Result {
  try {
    return action()
  } catch (error) {
    throw FourierFTError.isInstance(error) ? usageError(error.message, error.code) : error
  }
}
