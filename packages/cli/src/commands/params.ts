/** `fourierft params`: counts the trained parameters of FourierFT and LoRA, as in table 1 of the paper. */
import {
  countParameters,
  type MethodSize,
  type PublishedRow,
  preset,
  presetNames,
  type Shape,
} from '@fourierft/core'
import type { Command } from 'commander'
import { fromCommandLine, usageError } from '../command-error.js'
import { jsonText } from '../json-text.js'
import { parsePositiveInteger } from '../option-values.js'
import type { Output } from '../output.js'
import { paperDifference } from '../paper-difference.js'
import { readShapes } from '../read-shapes.js'
import { textTable } from '../text-table.js'

interface Options {
  readonly preset?: string
  readonly shapes?: string
  readonly n?: readonly number[]
  readonly rank?: readonly number[]
  readonly json?: true
}

/** The layers to count, and what the paper prints for them. */
interface Model {
  readonly name: string
  readonly shapes: readonly Shape[]
  readonly published: readonly PublishedRow[]
}

const HELP = `
Presets: ${presetNames.join(', ')}.
A preset has the query and value layers of each block. Bytes are those of float32. All numbers are computed; a note follows each number that
differs from the one in the paper.

Examples:
  $ fourierft params
  $ fourierft params --preset roberta-base --json
  $ fourierft params --preset llama2-7b --n 500 --n 4000 --rank 8
  $ fourierft params --shapes shapes.json --n 1000 --rank 8
`

export function addParamsCommand(program: Command, output: Output): void {
  program
    .command('params')
    .description("count trained parameters and bytes: the paper's table 1, or any layers")
    .option('--preset <name>', 'a model of table 1; default: all')
    .option('--shapes <file>', 'other layers, JSON: {"module": [out, in], ...}')
    .option('--n <count>', 'coefficients of FourierFT in each layer; may be repeated', collect)
    .option('--rank <rank>', 'rank of LoRA; may be repeated', collect)
    .option('--json', 'print JSON')
    .addHelpText('after', HELP)
    .action((options: Options) => printParams(options, output))
}

function collect(text: string, previous: readonly number[] = []): readonly number[] {
  return [...previous, parsePositiveInteger(text)]
}

async function printParams(options: Options, output: Output): Promise<void> {
  const sizes: MethodSize[] = [
    ...(options.rank ?? []).map((rank) => ({ method: 'lora', rank }) as const),
    ...(options.n ?? []).map((n) => ({ method: 'fourierft', n }) as const),
  ]
  const models = await chosenModels(options)
  if (options.shapes !== undefined && sizes.length === 0) {
    throw usageError('--shapes needs the size of the adapters', 'add --n COUNT, --rank RANK or both')
  }
  const rows = fromCommandLine(() => models.flatMap((model) => countModel(model, sizes)))
  output.result(options.json ? jsonText(rows) : table(rows))
}

async function chosenModels(options: Options): Promise<Model[]> {
  if (options.shapes !== undefined) {
    if (options.preset !== undefined) {
      throw usageError('--preset and --shapes cannot be combined', 'give one of them')
    }
    return [{ name: options.shapes, shapes: Object.values(await readShapes(options.shapes)), published: [] }]
  }
  const names = options.preset === undefined ? presetNames : [options.preset]
  return names.map((name) => {
    const { shapes, rows } = fromCommandLine(() => preset(name))
    return { name, shapes: Object.values(shapes), published: rows }
  })
}

function countModel({ name, shapes, published }: Model, sizes: readonly MethodSize[]) {
  return (sizes.length > 0 ? sizes : published.map(({ size }) => size)).map((size) => {
    const count = countParameters(size, shapes)
    const row = published.find((candidate) => sizeText(candidate.size) === sizeText(size))
    return {
      model: name,
      ...size,
      ...count,
      published: row ? { parameters: row.parameters, bytes: row.bytes } : null,
      note: (row && paperDifference(count, row)) ?? null,
    }
  })
}

function sizeText(size: MethodSize): string {
  return size.method === 'lora' ? `r=${size.rank}` : `n=${size.n}`
}

function table(rows: ReturnType<typeof countModel>): string {
  return textTable(
    ['model', 'method', 'size', 'layers', 'parameters', 'bytes', 'note'],
    rows.map((row) => [
      row.model,
      row.method === 'lora' ? 'LoRA' : 'FourierFT',
      sizeText(row),
      row.layers,
      row.parameters,
      row.bytes,
      row.note ?? '',
    ]),
  )
}
