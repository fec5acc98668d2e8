/** Runs one command line, and turns every error into one line and an exit status. */
import { FourierFTError } from '@fourierft/core'
import { CommanderError } from 'commander'
import { CommandError, type ExitStatus, usageError } from './command-error.js'
import { createProgram } from './commands/index.js'
import { diagnosticLine } from './diagnostic-line.js'
import type { Output } from './output.js'

/** @param args the arguments after `fourierft` */
export async function run(args: readonly string[], output: Output): Promise<ExitStatus> {
  try {
    const program = createProgram(output)
    if (args.length === 0) throw usageError('expected a command', 'see fourierft --help')
    await program.parseAsync(args, { from: 'user' })
    return 0
  } catch (error) {
    // Commander has already printed the problem with the arguments, or the help or version.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
    output.diagnostic(`${describe(error)}\n`)
    return error instanceof CommandError ? error.status : 1
  }
}

function describe(error: unknown): string {
  if (FourierFTError.isInstance(error) || error instanceof CommandError) {
    return diagnosticLine(error.code, error.message)
  }
  return diagnosticLine(
    'INTERNAL',
    error instanceof Error ? `${error.name}: ${error.message}` : String(error),
  )
}
