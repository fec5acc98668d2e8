/** `fourierft convert`: from a PEFT adapter to one that stands alone, and back. */
import { pathToFileURL } from 'node:url'
import { loadAdapter, savePretrained } from '@fourierft/core'
import { type Command, Option } from 'commander'
import { readShapes } from '../read-shapes.js'

interface Options {
  readonly to: 'peft' | 'standalone'
  readonly shapes?: string
}

const HELP = `
A stand-alone file holds the shape of each layer and, where PEFT's seed rule cannot make them, the entries; a PEFT file holds neither.
The shapes of a PEFT adapter come from --shapes FILE: {"encoder.0.query": [768, 768], ...}, module names as in the adapter's file
without base_model.model. An adapter that PEFT cannot reproduce is not converted to peft.

Examples:
  $ fourierft convert my-adapter standalone --shapes shapes.json
  $ fourierft convert standalone for-peft --to peft
`

export function addConvertCommand(program: Command): void {
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
    .action(convert)
}

async function convert(directory: string, out: string, { to, shapes }: Options): Promise<void> {
  const adapter = await loadAdapter(
    pathToFileURL(directory),
    shapes === undefined ? {} : { shapes: await readShapes(shapes) },
  )
  await savePretrained(adapter, pathToFileURL(out), { form: to })
}
