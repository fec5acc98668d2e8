#!/usr/bin/env node
/** The `fourierft` command: hands the arguments and the streams of the process to `run`, and nothing else. */
import { diagnosticLine } from './diagnostic-line.js'
import { run } from './run.js'

// A reader that has seen enough (`| head`) closes the pipe; that is no failure, and a failure of the command stays one.
// Anything else (a full disk) is: what remains of the result has nowhere to go, so the command ends here.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') return
  const line = `${diagnosticLine('IO_ERROR', `standard output: ${error.message}`)}\n`
  process.stderr.write(line, () => process.exit(1))
})

process.exitCode = await run(process.argv.slice(2), {
  result: (text) => process.stdout.write(text),
  diagnostic: (text) => process.stderr.write(text),
})
