/** Failures of commands, and their exit status. */
import { FourierFTError } from '@fourierft/core'

/** 0: done · 1: failed · 2: wrong arguments. */
export type ExitStatus = 0 | 1 | 2

/** A failure of the tool itself, printed in the same way as an error of core: `code` and `message`. */
export class CommandError extends Error {
  override readonly name = 'CommandError'
  readonly code: string
  readonly status: ExitStatus

  /**
   * @param problem what is wrong
   * @param options.advice what the user can do; `message` contains it after a semicolon
   */
  constructor(
    code: string,
    problem: string,
    { advice, status = 1 }: { readonly advice?: string | undefined; readonly status?: ExitStatus } = {},
  ) {
    super(advice === undefined ? problem : `${problem}; ${advice}`)
    this.code = code
    this.status = status
  }
}

/** Returns the error of wrong arguments. */
export function usageError(problem: string, advice?: string, code = 'USAGE'): CommandError {
  return new CommandError(code, problem, { advice, status: 2 })
}

/** Runs `action`. All of its inputs come from the command line, so an error of core is an error of the arguments. */
export function fromCommandLine<Result>(action: () => Result): Result {
  try {
    return action()
  } catch (error) {
    throw FourierFTError.isInstance(error) ? usageError(error.problem, error.advice, error.code) : error
  }
}
