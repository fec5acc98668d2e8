/** `fourierft train`: fine-tunes a model on a file of rows. */
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { DataFormat, TrainingReport, TrainOptions } from '@fourierft/transformers'
import { type Command, Option } from 'commander'
import { checkWritable } from '../check-writable.js'
import { CommandError, usageError } from '../command-error.js'
import { importPackage } from '../import-package.js'
import { jsonText } from '../json-text.js'
import { DTYPES, openPipeline, type PipelineOptions, TASKS } from '../open-pipeline.js'
import { parseCount, parseNames, parsePositiveInteger, parseRate } from '../option-values.js'
import type { Output } from '../output.js'
import { progressBar } from '../progress-bar.js'
import { textTable } from '../text-table.js'
import { writeResultFile } from '../write-result-file.js'

interface Options extends PipelineOptions {
  readonly data: string
  readonly eval?: string
  readonly format?: DataFormat
  readonly out: string
  readonly adapter?: string
  readonly targetModules?: readonly string[]
  readonly n?: number
  readonly scaling?: number
  readonly epochs?: number
  readonly batchSize?: number
  readonly learningRate?: number
  readonly headLearningRate?: number
  readonly maxLength?: number
  readonly patience?: number
  readonly seed?: number
  readonly packing?: true
  readonly checkpoint?: string
  readonly resume?: true
  readonly json?: true
}

const HELP = `
Rows are JSON lines or CSV. Their fields depend on the task:
  text-classification    text, label, and text_pair for pairs; labels may be new
  token-classification   tokens, labels (JSON lines)
  feature-extraction     text, text_pair, score; without score, pairs that belong together
  text-generation        text; or prompt, completion; or messages (JSON lines)
  text2text-generation   text, target; also translation and summarization
  image-classification   image (a path or URL), label

--out gets the adapter (adapter_config.json, adapter_model.safetensors), which PEFT loads, and training.json and loss.svg with the numbers and the
curve of the training. Ctrl-C stops after the current step and keeps what was trained. With --checkpoint FILE, --resume goes on from there.

Examples:
  $ fourierft train --model ./minilm --data train.jsonl --eval test.jsonl --out ./mine
  $ fourierft train --model some/model --task text-generation --dtype q4 --data stories.jsonl --out ./mine --epochs 1
`

export function addTrainCommand(program: Command, output: Output): void {
  program
    .command('train')
    .description('fine-tune a model on your rows')
    .requiredOption('--model <model>', 'folder of a transformers.js model, or its name on the hub')
    .requiredOption('--data <file>', 'rows for training')
    .option('--eval <file>', 'rows to measure after each epoch')
    .addOption(
      new Option('--format <format>', 'format of the files; default: by their names').choices([
        'jsonl',
        'csv',
      ]),
    )
    .requiredOption('--out <dir>', 'directory to write')
    .addOption(new Option('--task <task>', 'task of the pipeline').choices(TASKS).default(TASKS[0]))
    .addOption(new Option('--dtype <dtype>', 'dtype of the model').choices(DTYPES).default('fp32'))
    .option('--adapter <dir>', 'adapter to train further')
    .option('--target-modules <names>', "modules to adapt, separated by commas; default: PEFT's", parseNames)
    .option('--n <count>', 'coefficients of each layer; default: 1000', parsePositiveInteger)
    .option('--scaling <alpha>', 'scaling; default: 150', parseRate)
    .option('--epochs <count>', 'default: 3', parsePositiveInteger)
    .option('--batch-size <rows>', 'default: 16', parsePositiveInteger)
    .option('--learning-rate <rate>', 'rate of the coefficients; default: 30 / scaling', parseRate)
    .option('--head-learning-rate <rate>', 'rate of a new head; default: 0.001', parseRate)
    .option('--max-length <tokens>', 'longer rows are cut; default: at most 512', parsePositiveInteger)
    .option('--packing', 'language models: join texts and divide them into blocks')
    .option('--patience <epochs>', 'stop after so many evaluations that are not better', parsePositiveInteger)
    .option('--seed <integer>', 'of the order of the rows; default: 0', parseCount)
    .option('--checkpoint <file>', 'file to go on from')
    .option('--resume', 'go on from the checkpoint if it exists')
    .option('--json', 'print the report as JSON')
    .addHelpText('after', HELP)
    .action((options: Options) => trainModel(options, output))
}

async function trainModel(options: Options, output: Output): Promise<void> {
  checkCombination(options)
  await checkWritable(options.out)
  const { transformers, adapters, close } = await openPipeline(options)
  const controller = new AbortController()
  const abort = () => controller.abort()
  process.once('SIGINT', abort)
  const bar = progressBar()
  try {
    await addAdapter(options, adapters)
    const report = await transformers.train(adapters, options.data, {
      ...settingsOf(options),
      signal: controller.signal,
      progress_callback: ({ loaded, total, loss }) => bar.update(loaded, total, `loss ${loss.toFixed(4)}`),
    })
    bar.stop()
    await adapters.savePretrained(pathToFileURL(options.out), { name: NAME })
    await writeResultFile(join(options.out, 'training.json'), jsonText(report))
    if (report.steps.length > 0) {
      const { lossCurve } = await importPackage(
        '@fourierft/onnxruntime',
        () => import('@fourierft/onnxruntime/loss-curve'),
      )
      await writeResultFile(join(options.out, 'loss.svg'), await lossCurve(report))
    }
    output.result(options.json ? jsonText(report) : describe(report, options.out))
  } catch (error) {
    if (!controller.signal.aborted) throw error
    throw new CommandError('ABORTED', 'stopped before the first step; nothing was written')
  } finally {
    bar.stop()
    process.off('SIGINT', abort)
    await close()
  }
}

const NAME = 'default'

/** Rejects options that would have no effect. */
function checkCombination(options: Options): void {
  const needs = (option: string, other: string) => usageError(`${option} needs ${other}`)
  if (options.resume && options.checkpoint === undefined) throw needs('--resume', '--checkpoint FILE')
  if (options.patience !== undefined && options.eval === undefined) throw needs('--patience', '--eval FILE')
  const ofNew = { '--target-modules': options.targetModules, '--n': options.n, '--scaling': options.scaling }
  for (const [option, value] of Object.entries(ofNew))
    if (value !== undefined && options.adapter !== undefined)
      throw usageError(`${option} is for a new adapter; --adapter has its own`)
}

async function addAdapter(
  { adapter, targetModules, n, scaling }: Options,
  adapters: Awaited<ReturnType<typeof openPipeline>>['adapters'],
): Promise<void> {
  if (adapter !== undefined) return adapters.loadAdapter(pathToFileURL(adapter), { name: NAME })
  await adapters.addAdapter(NAME, {
    ...(targetModules && { targetModules }),
    ...(n !== undefined && { nFrequency: n }),
    ...(scaling !== undefined && { scaling }),
  })
}

function settingsOf(options: Options): TrainOptions {
  const { eval: evaluation, checkpoint, resume = false } = options
  const { epochs, batchSize, learningRate, headLearningRate, maxLength, patience, seed, packing, format } =
    options
  const given = {
    evaluation,
    epochs,
    batchSize,
    learningRate,
    headLearningRate,
    maxLength,
    patience,
    seed,
    packing,
    format,
  }
  return {
    ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)),
    ...(checkpoint !== undefined && { checkpoint: { path: checkpoint, resume } }),
  }
}

function describe({ epochs, rows, stopped, labels, seconds }: TrainingReport, out: string): string {
  const metrics = [...new Set(epochs.flatMap(({ metrics = {} }) => Object.keys(metrics)))].filter(
    (name) => !name.startsWith('f1:'),
  )
  const table = textTable(
    ['epoch', 'loss', ...(rows.evaluation > 0 ? ['evaluation'] : []), ...metrics],
    epochs.map(({ epoch, loss, evaluationLoss, metrics: measured = {} }) => [
      epoch + 1,
      rounded(loss),
      ...(evaluationLoss === undefined ? [] : [rounded(evaluationLoss)]),
      ...metrics.map((name) => rounded(measured[name] ?? Number.NaN)),
    ]),
  )
  const cut = rows.cut > 0 ? `, ${rows.cut} of them cut` : ''
  const classes = labels ? `; labels: ${labels.join(', ')}` : ''
  const end = { end: '', early: '; stopped early, the best epoch is kept', aborted: '; stopped by Ctrl-C' }[
    stopped
  ]
  const held = rows.evaluation > 0 ? `, ${rows.evaluation} for evaluation` : ''
  return `${table}${rows.training} rows${held}${cut}${classes}; ${Math.round(seconds)} s${end}\nwritten: ${out}\n`
}

function rounded(value: number): number {
  return Number(value.toPrecision(4))
}
