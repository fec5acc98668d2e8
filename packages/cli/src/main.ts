#!/usr/bin/env node
/** The `fourierft` command: hands the arguments and the streams of the process to `run`, and nothing else. */
import { run } from './run.js'

// A reader that has seen enough (`| head`) closes the pipe; that is no failure, and a failure of the command stays one.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
})

process.exitCode = await run(process.argv.slice(2), {
  result: (text) => process.stdout.write(text),
  diagnostic: (text) => process.stderr.write(text),
})
