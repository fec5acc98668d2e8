/** `fourierft convert`: writes an adapter in the other file format. */
import { pathToFileURL } from 'node:url'
import { type Adapter, FourierFTError, nearestNames, type Shape, savePretrained } from '@fourierft/core'
import { type Command, Option } from 'commander'
import { usageError } from '../command-error.js'
import { isSameFile } from '../is-same-file.js'
import { loadDirectory } from '../load-directory.js'
import type { Output } from '../output.js'
import { readShapes } from '../read-shapes.js'
import { withOptionAdvice } from '../with-option-advice.js'

interface Options {
  readonly to: 'peft' | 'standalone'
  readonly shapes?: string
}

const HELP = `
An adapter has one of two file formats. "standalone" contains the shapes and entries of the layers; PEFT cannot load it. "peft" is the format
that PEFT loads. PEFT samples the entries from the seed; if they would differ from those of the adapter, the command fails. Known shapes are
kept in the metadata, which PEFT ignores.
If the adapter's file does not contain the shapes, give them with --shapes FILE: {"encoder.0.query": [768, 768], ...}. The module names are
those of the file without base_model.model.

Examples:
  $ fourierft convert my-adapter standalone --shapes shapes.json
  $ fourierft convert standalone for-peft --to peft
`

export function addConvertCommand(program: Command, output: Output): void {
  program
    .command('convert')
    .description('write an adapter in the other file format')
    .argument('<dir>', 'directory of the adapter')
    .argument('<out>', 'directory to write')
    .addOption(
      new Option('--to <format>', 'format to write').choices(['peft', 'standalone']).default('standalone'),
    )
    .option('--shapes <file>', 'shapes of the layers, JSON: {"module": [out, in], ...}')
    .addHelpText('after', HELP)
    .action((directory: string, out: string, options: Options) =>
      withOptionAdvice('--shapes FILE', () => convert(directory, out, options, output)),
    )
}

async function convert(
  directory: string,
  out: string,
  { to, shapes }: Options,
  output: Output,
): Promise<void> {
  if (out === '') throw usageError('expected a directory to write; received an empty string')
  if (await isSameFile(directory, out)) {
    throw usageError(
      `${out} is the adapter's own directory, which would be overwritten`,
      'give another directory to write',
    )
  }
  const adapter = await loadDirectory(directory, output)
  const complete = shapes === undefined ? adapter : withShapes(adapter, shapes, await readShapes(shapes))
  await savePretrained(complete, pathToFileURL(out), { form: to })
}

/**
 * Returns the adapter with the shapes from the file. The file may contain shapes of other modules of the model. But if a module of the adapter
 * remains without a shape, another name in the file is probably misspelled, and the error lists the most similar modules.
 */
function withShapes(adapter: Adapter, file: string, shapes: Readonly<Record<string, Shape>>): Adapter {
  const complete = adapter.withShapes(shapes)
  const withoutShape = [...complete.modules.values()].flatMap(({ name, shape }) => (shape ? [] : [name]))
  const unknown = Object.keys(shapes).find((name) => !adapter.modules.has(name))
  if (withoutShape.length > 0 && unknown !== undefined) {
    throw new FourierFTError(
      'MODULE_NOT_FOUND',
      `${file}: the adapter has no module "${unknown}"; modules without a shape: ${nearestNames([unknown], withoutShape).join(', ')}`,
      { file, module: unknown, expected: withoutShape, received: unknown },
    )
  }
  return complete
}
