#!/usr/bin/env node
/** The `fourierft` command: calls `run` with the arguments and the streams of the process. */
import { diagnosticLine } from './diagnostic-line.js'
import { run } from './run.js'

// A reader such as `head` closes the pipe early, which is not a failure. Any other error (a full disk) ends the command, because the
// rest of the result cannot be written.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') return
  const line = `${diagnosticLine('IO_ERROR', `standard output: ${error.message}`)}\n`
  process.stderr.write(line, () => process.exit(1))
})

process.exitCode = await run(process.argv.slice(2), {
  result: (text) => process.stdout.write(text),
  diagnostic: (text) => process.stderr.write(text),
})
