/** `fourierft evaluate`: measures a model, with or without an adapter, on a file of rows. */
import { pathToFileURL } from 'node:url'
import type { DataFormat, EvaluationReport } from '@fourierft/transformers'
import { type Command, Option } from 'commander'
import { jsonText } from '../json-text.js'
import { DTYPES, openPipeline, type PipelineOptions, TASKS } from '../open-pipeline.js'
import { parsePositiveInteger } from '../option-values.js'
import type { Output } from '../output.js'
import { textTable } from '../text-table.js'

interface Options extends PipelineOptions {
  readonly data: string
  readonly format?: DataFormat
  readonly adapter?: string
  readonly batchSize?: number
  readonly maxLength?: number
  readonly packing?: true
  readonly json?: true
}

const HELP = `
The rows have the fields that fourierft train --help lists. Without --adapter, the base model is measured.

Examples:
  $ fourierft evaluate --model ./minilm --adapter ./mine --data test.jsonl
  $ fourierft evaluate --model some/model --task text-generation --dtype q4 --data stories.jsonl --json
`

export function addEvaluateCommand(program: Command, output: Output): void {
  program
    .command('evaluate')
    .description('measure a model and an adapter on your rows')
    .requiredOption('--model <model>', 'folder of a transformers.js model, or its name on the hub')
    .requiredOption('--data <file>', 'rows')
    .addOption(
      new Option('--format <format>', 'format of the file; default: by its name').choices(['jsonl', 'csv']),
    )
    .option('--adapter <dir>', 'directory of the adapter; default: none')
    .addOption(new Option('--task <task>', 'task of the pipeline').choices(TASKS).default(TASKS[0]))
    .addOption(new Option('--dtype <dtype>', 'dtype of the model').choices(DTYPES).default('fp32'))
    .option('--batch-size <rows>', 'default: 16', parsePositiveInteger)
    .option('--max-length <tokens>', 'longer rows are cut; default: at most 512', parsePositiveInteger)
    .option('--packing', 'language models: join texts and divide them into blocks')
    .option('--json', 'print JSON')
    .addHelpText('after', HELP)
    .action((options: Options) => evaluateModel(options, output))
}

async function evaluateModel(options: Options, output: Output): Promise<void> {
  const { adapter, data, format, batchSize, maxLength, packing, json } = options
  const { transformers, adapters, close } = await openPipeline(options)
  try {
    if (adapter !== undefined) await adapters.loadAdapter(pathToFileURL(adapter))
    // A new adapter changes nothing.
    else await adapters.addAdapter('base', { targetModules: 'all-linear', nFrequency: 1 })
    const report = await transformers.evaluate(adapters, data, {
      ...(format && { format }),
      ...(batchSize !== undefined && { batchSize }),
      ...(maxLength !== undefined && { maxLength }),
      ...(packing && { packing }),
    })
    output.result(json ? jsonText(report) : describe(report))
  } finally {
    await close()
  }
}

function describe({ loss, metrics, rows }: EvaluationReport): string {
  const cut = rows.cut > 0 ? `, ${rows.cut} of them cut` : ''
  const measured = Object.entries({ loss, ...metrics }).map(
    ([name, value]) => [name, Number(value.toPrecision(6))] as const,
  )
  return `${textTable(['', 'value'], measured)}${rows.evaluation} rows${cut}\n`
}
