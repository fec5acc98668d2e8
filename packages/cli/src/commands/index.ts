/** All commands, the help, and the format of error messages. To add a command, write `<name>.ts` beside this file and call it in `createProgram`. */
import { readFileSync } from 'node:fs'
import { Command } from 'commander'
import { diagnosticLine } from '../diagnostic-line.js'
import type { Output } from '../output.js'
import { addConformanceCommand } from './conformance.js'
import { addConvertCommand } from './convert.js'
import { addDeltaCommand } from './delta.js'
import { addEntriesCommand } from './entries.js'
import { addEvaluateCommand } from './evaluate.js'
import { addInspectCommand } from './inspect.js'
import { addMergeCommand } from './merge.js'
import { addParamsCommand } from './params.js'
import { addServeCommand } from './serve.js'
import { addTrainCommand } from './train.js'

const EXAMPLES = `
Examples:
  $ fourierft train --model ./minilm --data train.jsonl --out ./mine
  $ fourierft evaluate --model ./minilm --adapter ./mine --data test.jsonl
  $ fourierft serve ./minilm --adapters ./adapters
  $ fourierft inspect my-adapter
  $ fourierft delta my-adapter --module encoder.0.query --out delta.safetensors
  $ fourierft entries --shape 768,768 --n 1000 --seed 2024 --json
  $ fourierft convert my-adapter standalone --shapes shapes.json
  $ fourierft merge model.onnx my-adapter --out merged.onnx
  $ fourierft params --preset roberta-base
  $ fourierft conformance --backend core

Exit status: 0 done · 1 failed (a bad file, a backend that does not conform) · 2 wrong arguments.
Results go to standard output. A failure is one line on standard error: fourierft: CODE: the problem; what you can do.
`

/** Returns the program with all commands. It runs, prints and exits only in `parseAsync`. */
export function createProgram(output: Output): Command {
  const program = new Command('fourierft')
    .description('Train, measure, serve, inspect and convert FourierFT adapters, and check backends.')
    .version(packageVersion())
    .addHelpText('after', EXAMPLES)
    .exitOverride()
    .configureOutput({
      writeOut: output.result,
      writeErr: output.diagnostic,
      outputError: (text, write) => write(`${diagnosticLine('USAGE', text.replace(/^error: /, ''))}\n`),
    })
  addTrainCommand(program, output)
  addEvaluateCommand(program, output)
  addServeCommand(program, output)
  addInspectCommand(program, output)
  addDeltaCommand(program, output)
  addEntriesCommand(program, output)
  addConvertCommand(program, output)
  addMergeCommand(program, output)
  addParamsCommand(program, output)
  addConformanceCommand(program, output)
  return program
}

function packageVersion(): string {
  const { version }: { version: string } = JSON.parse(
    readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
  )
  return version
}
