/** The whole command line: all commands, the help, and how error messages are printed. To add a command, write `commands/<name>.ts` and call it in `createProgram`. */
import { readFileSync } from 'node:fs'
import { Command } from 'commander'
import { addConformanceCommand } from './commands/conformance.js'
import { addConvertCommand } from './commands/convert.js'
import { addDeltaCommand } from './commands/delta.js'
import { addEntriesCommand } from './commands/entries.js'
import { addInspectCommand } from './commands/inspect.js'
import { addParamsCommand } from './commands/params.js'
import { diagnosticLine } from './diagnostic-line.js'
import type { Output } from './output.js'

const EXAMPLES = `
Examples:
  $ fourierft inspect my-adapter
  $ fourierft delta my-adapter --module encoder.0.query --out delta.safetensors
  $ fourierft entries --shape 768,768 --n 1000 --seed 2024 --json
  $ fourierft convert my-adapter standalone --shapes shapes.json
  $ fourierft params --preset roberta-base
  $ fourierft conformance --backend core

Exit status: 0 done · 1 failed (a bad file, a backend that does not conform) · 2 the command line is wrong.
Results go to standard output. A failure is one line on standard error: fourierft: CODE: the problem; what you can do.
`

/** Returns the program with all commands. It runs, prints and exits only in `parseAsync`. */
export function createProgram(output: Output): Command {
  const program = new Command('fourierft')
    .description('Inspect, convert and check FourierFT adapters.')
    .version(packageVersion())
    .addHelpText('after', EXAMPLES)
    .exitOverride()
    .configureOutput({
      writeOut: output.result,
      writeErr: output.diagnostic,
      outputError: (text, write) => write(`${diagnosticLine('USAGE', text.replace(/^error: /, ''))}\n`),
    })
  addInspectCommand(program, output)
  addDeltaCommand(program, output)
  addEntriesCommand(program, output)
  addConvertCommand(program, output)
  addParamsCommand(program, output)
  addConformanceCommand(program, output)
  return program
}

function packageVersion(): string {
  const { version }: { version: string } = JSON.parse(
    readFileSync(new URL('../package.json', import.meta.url), 'utf8'),
  )
  return version
}
