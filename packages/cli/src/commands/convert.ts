/** `fourierft convert`: from one form of file to the other. */
import { realpath } from 'node:fs/promises'
import { pathToFileURL } from 'node:url'
import { type Adapter, FourierFTError, nearestNames, type Shape, savePretrained } from '@fourierft/core'
import { type Command, Option } from 'commander'
import { usageError } from '../command-error.js'
import { loadDirectory } from '../load-directory.js'
import type { Output } from '../output.js'
import { readShapes } from '../read-shapes.js'
import { speakingOptions } from '../speaking-options.js'

interface Options {
  readonly to: 'peft' | 'standalone'
  readonly shapes?: string
}

const HELP = `
Two forms of file. standalone: holds the shapes and the entries of its layers, needs neither a base model nor PEFT's seed rule, and
PEFT refuses it. peft: loads in PEFT, which draws the entries itself; shapes that are known stay in its metadata, which PEFT passes
over. An adapter that PEFT cannot reproduce is not written as peft.
Shapes that the adapter's file does not hold come from --shapes FILE: {"encoder.0.query": [768, 768], ...}, module names as in that
file without base_model.model.

Examples:
  $ fourierft convert my-adapter standalone --shapes shapes.json
  $ fourierft convert standalone for-peft --to peft
`

export function addConvertCommand(program: Command, output: Output): void {
  program
    .command('convert')
    .description('write an adapter in the other form')
    .argument('<dir>', 'directory of the adapter')
    .argument('<out>', 'directory to write')
    .addOption(
      new Option('--to <form>', 'form to write').choices(['peft', 'standalone']).default('standalone'),
    )
    .option('--shapes <file>', 'shapes of the layers, JSON: {"module": [out, in], ...}')
    .addHelpText('after', HELP)
    .action((directory: string, out: string, options: Options) =>
      speakingOptions('--shapes FILE', () => convert(directory, out, options, output)),
    )
}

async function convert(
  directory: string,
  out: string,
  { to, shapes }: Options,
  output: Output,
): Promise<void> {
  if (out === '') throw usageError('expected a directory to write; received an empty text')
  if (await areOne(directory, out)) {
    throw usageError(
      `${out} is the adapter's own directory, which would be overwritten; give another one to write`,
    )
  }
  const adapter = await loadDirectory(directory, output)
  const complete = shapes === undefined ? adapter : withShapes(adapter, shapes, await readShapes(shapes))
  await savePretrained(complete, pathToFileURL(out), { form: to })
}

/** Whether the paths, whatever links they go through, lead to one directory that exists. */
async function areOne(a: string, b: string): Promise<boolean> {
  const [first, second] = await Promise.all([a, b].map((path) => realpath(path).catch(() => undefined)))
  return first !== undefined && first === second
}

/**
 * The file may hold the shapes of a whole model. Where it leaves out a module of the adapter, a name that the adapter does not have is
 * taken for a slip of the pen, and shown with the module that it is nearest to.
 */
function withShapes(adapter: Adapter, file: string, shapes: Readonly<Record<string, Shape>>): Adapter {
  const complete = adapter.withShapes(shapes)
  const without = [...complete.modules.values()].flatMap(({ name, shape }) => (shape ? [] : [name]))
  const strange = Object.keys(shapes).find((name) => !adapter.modules.has(name))
  if (without.length > 0 && strange !== undefined) {
    throw new FourierFTError(
      'MODULE_NOT_FOUND',
      `${file}: the adapter has no module "${strange}"; without a shape are: ${nearestNames([strange], without).join(', ')}`,
      { file, module: strange, expected: without, received: strange },
    )
  }
  return complete
}
