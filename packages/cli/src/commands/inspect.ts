/** `fourierft inspect`: describes an adapter without its model. */
import { type AdaptedModule, type Adapter, escapeUnprintable, PEFT_TYPE } from '@fourierft/core'
import type { Command } from 'commander'
import { jsonText } from '../json-text.js'
import { loadDirectory } from '../load-directory.js'
import type { Output } from '../output.js'
import { textTable } from '../text-table.js'

const HELP = `
Examples:
  $ fourierft inspect my-adapter
  $ fourierft inspect my-adapter --json
`

export function addInspectCommand(program: Command, output: Output): void {
  program
    .command('inspect')
    .description('describe an adapter: its file format, settings and modules')
    .argument('<dir>', 'directory of the adapter')
    .option('--json', 'print JSON')
    .addHelpText('after', HELP)
    .action(async (directory: string, { json }: { readonly json?: true }) => {
      const description = describe(await loadDirectory(directory, output))
      output.result(json ? jsonText(description) : formatDescription(description))
    })
}

type Description = ReturnType<typeof describe>

function describe({ config, modules, savedTensors, baseTensors, ignoredTensors, metadata }: Adapter) {
  const layers = Array.from(modules.values(), describeModule)
  return {
    peftType: config.peftType,
    /** Whether the file has the stand-alone format. */
    standalone: config.peftType !== PEFT_TYPE,
    baseModel: config.baseModelNameOrPath,
    taskType: config.taskType,
    nFrequency: config.nFrequency,
    scaling: config.scaling,
    randomLocSeed: config.randomLocSeed,
    targetModules: config.targetModules,
    fanInFanOut: config.fanInFanOut,
    parameters: layers.reduce((sum, { n }) => sum + n, 0),
    modules: layers,
    savedTensors: Array.from(savedTensors, ([name, { dtype, shape }]) => ({ name, dtype, shape })),
    /** Copies of weights of the base model. */
    baseTensors: Array.from(baseTensors, ([name, { dtype, shape }]) => ({ name, dtype, shape })),
    /** Tensors that the configuration does not target. */
    ignoredTensors,
    metadata,
  }
}

function describeModule({ name, coefficients, dtype, shape, recipe }: AdaptedModule) {
  return {
    name,
    n: coefficients.length,
    dtype,
    shape: shape ?? null,
    entries: recipe,
    /** The Euclidean norm of the coefficients; 0 for a layer that was never trained. */
    norm: Math.sqrt(coefficients.reduce((sum, c) => sum + c * c, 0)),
  }
}

function fileFormat({ standalone, modules }: Description): string {
  if (standalone) return 'standalone (PEFT cannot load it)'
  return modules.every(({ shape }) => shape !== null)
    ? 'PEFT, with the shapes of its layers'
    : 'PEFT, without the shapes of its layers'
}

function formatDescription(description: Description): string {
  const { modules, savedTensors, baseTensors, ignoredTensors } = description
  const list = (tensors: Description['savedTensors']) =>
    tensors.map(({ name, shape }) => `${name} [${shape.join(', ')}]`).join(', ')
  const facts: [string, string][] = [
    ['format', fileFormat(description)],
    ['peft type', description.peftType],
    ['base model', description.baseModel ?? 'unknown'],
    ['scaling', String(description.scaling)],
    ['seed', String(description.randomLocSeed)],
    ['target modules', [description.targetModules ?? 'unknown'].flat().join(', ')],
    ['weights', description.fanInFanOut ? 'stored [in, out] (fan_in_fan_out)' : 'stored [out, in]'],
    ['modules', String(modules.length)],
    ['parameters', String(description.parameters)],
    ['saved tensors', list(savedTensors) || 'none'],
  ]
  if (baseTensors.length > 0) facts.push(['base weights', list(baseTensors)])
  if (ignoredTensors.length > 0) facts.push(['ignored tensors', ignoredTensors.join(', ')])
  const table = textTable(
    ['module', 'n', 'dtype', 'shape', 'entries', 'norm'],
    modules.map(({ name, n, dtype, shape, entries, norm }) => [
      name,
      n,
      dtype,
      shape ? `[${shape.join(', ')}]` : 'unknown',
      entries.sampler,
      norm,
    ]),
  )
  return `${facts.map(([name, value]) => `${name.padEnd(16)}${escapeUnprintable(value)}\n`).join('')}\n${table}`
}
