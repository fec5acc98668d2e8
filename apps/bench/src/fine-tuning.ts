/**
 * Measures `train` of @fourierft/transformers against PEFT on PyTorch: the same fine-tuning of a real sentence encoder on real mails, with the same rows,
 * batches, starting weights, rates and schedule. A round runs each case in a fresh process (`fine-tuning-process.ts`, `python/fine_tuning_peer.py`), one
 * after the other, on one thread; ratios are computed within a round.
 */
import { spawnSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type MailCounts, missingFile, type Settings, writeFiles } from './fine-tuning-files.js'
import type { FineTuning, StartUp } from './fine-tuning-process.js'
import { inFreshProcess } from './fresh-process.js'
import { formatRatio, median, printSection, type RunLength, ratio } from './measure.js'
import { findEncoder } from './sentence-encoder.js'

interface Plan {
  readonly counts: MailCounts
  readonly epochs: number
  readonly maxLength: number
  readonly rounds: number
}

const PLANS: Readonly<Record<RunLength, Plan>> = {
  quick: { counts: { training: 16, held: 8 }, epochs: 2, maxLength: 16, rounds: 1 },
  full: { counts: { training: 192, held: 96 }, epochs: 3, maxLength: 128, rounds: 3 },
}

/** `train`'s defaults, except for the rate. LoRA has a rate of its own: FourierFT's are hundreds of times as high. */
const SETTINGS: Omit<Settings, 'epochs' | 'maxLength'> = {
  batchSize: 16,
  targetModules: ['query', 'value'],
  nFrequency: 1000,
  learningRate: 0.05,
  headLearningRate: 1e-3,
  weightDecay: 0.01,
  maxGradientNorm: 1,
  warmup: 0.06,
  seed: 0,
  labels: ['ham', 'spam'],
  lora: { rank: 8, alpha: 16, learningRate: 1e-3 },
}

const CASES = ['train', 'PEFT FourierFT', 'PEFT LoRA'] as const
type Name = (typeof CASES)[number]
type Round = Readonly<Record<Name, FineTuning>>

/** Rounding makes the losses of the same training differ by less than this. */
const SAME_LOSS = 1.01
const MIB = 2 ** 20
const PROCESS = new URL('fine-tuning-process.js', import.meta.url).href
const SCRIPT = fileURLToPath(new URL('../python/fine_tuning_peer.py', import.meta.url))
const PYTHON = process.env.FOURIERFT_PYTHON ?? 'python3'

export async function benchmarkFineTuning(runLength: RunLength): Promise<void> {
  const encoder = findEncoder()
  const missing =
    spawnSync(PYTHON, ['-c', 'import peft, safetensors, tokenizers, torch, transformers']).status === 0
      ? missingFile(encoder)
      : 'the benchmark needs a Python with PEFT and Transformers; set FOURIERFT_PYTHON to its path'
  if (encoder === undefined || missing !== undefined) {
    console.log(`\nfine-tuning: skipped: ${missing}`)
    return
  }
  const { counts, epochs, maxLength, rounds } = PLANS[runLength]
  const settings = { ...SETTINGS, epochs, maxLength }
  console.log(`\nfine-tuning\n${runPython<{ readonly versions: string }>('versions').versions}, one thread`)
  const folder = await writeFiles(encoder, counts, settings)
  try {
    inFreshProcess(PROCESS, 'start', folder)
    const measured = Array.from(
      { length: rounds },
      (): Round => ({
        train: inFreshProcess<FineTuning>(PROCESS, 'train', folder),
        'PEFT FourierFT': runPython<FineTuning>('FourierFT', folder),
        'PEFT LoRA': runPython<FineTuning>('LoRA', folder),
      }),
    )
    printSection(
      'A fine-tuning of paraphrase-MiniLM-L3-v2 on mails',
      `${counts.training} rows, ${counts.held} held out, at most ${maxLength} tokens, batches of ${settings.batchSize}, ${epochs} epochs, query and value, ` +
        `n = ${settings.nFrequency}; LoRA r = ${settings.lora.rank}; the same new head`,
    )
    printLosses(measured[0])
    printTimes(measured)
    printStartUp(Array.from({ length: rounds }, () => inFreshProcess<StartUp>(PROCESS, 'start-up', folder)))
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function printLosses(round: Round): void {
  for (const name of CASES) {
    const column = round[name].epochs.map(
      ({ loss, accuracy }) => `${loss.toFixed(4)} (${(100 * accuracy).toFixed(1)} %)`,
    )
    console.log(`  ${`held out, ${name}`.padEnd(30)}${column.join('   ')}`)
  }
}

function printTimes(rounds: readonly Round[]): void {
  const target = SAME_LOSS * Math.max(...CASES.map((name) => lowestLoss(rounds[0][name])))
  const rows: readonly (readonly [title: string, time: (measured: FineTuning) => number])[] = [
    [`data and training, to a held-out loss of ${target.toFixed(4)}`, (measured) => timeTo(target, measured)],
    ['data and training, all epochs', ({ epochs }) => epochs[epochs.length - 1].end],
    ['preparation', ({ preparation }) => preparation],
    ['an epoch', ({ epochs }) => median(epochs.map(({ training }) => training))],
    ['an evaluation', ({ epochs }) => median(epochs.map(({ evaluation }) => evaluation))],
    ['imports and opening the model', ({ opening }) => opening],
    ['the whole process', ({ total }) => total],
  ]
  for (const [title, time] of rows)
    printRow(rounds, title, time, (milliseconds) => `${(milliseconds / 1000).toFixed(2)} s`)
  printRow(
    rounds,
    'peak memory',
    ({ peak }) => peak,
    (bytes) => `${(bytes / MIB).toFixed(0)} MiB`,
  )
}

/** Medians of all cases, and the ratios of `train` to the others. */
function printRow(
  rounds: readonly Round[],
  title: string,
  value: (measured: FineTuning) => number,
  format: (value: number) => string,
): void {
  const values = (name: Name) => rounds.map((round) => value(round[name]))
  const medians = CASES.map((name) => `${name} ${format(median(values(name)))}`)
  const ratios = CASES.slice(1).map(
    (name) => `train over ${name} ${formatRatio(ratio(values('train'), values(name)))}`,
  )
  console.log(`  ${title}\n    ${[...medians, ...ratios].join('   ')}`)
}

const lowestLoss = ({ epochs }: FineTuning) => Math.min(...epochs.map(({ loss }) => loss))

/** The time at the end of the first epoch with that held-out loss. */
function timeTo(target: number, { epochs }: FineTuning): number {
  return epochs.find(({ loss }) => loss <= target)?.end ?? Number.POSITIVE_INFINITY
}

function printStartUp(rounds: readonly StartUp[]): void {
  printSection('Start-up', 'as multiples of opening the pipeline')
  const opening = rounds.map((round) => round.pipeline)
  const print = (title: string, time: (round: StartUp) => number) =>
    console.log(`  ${title.padEnd(30)}${formatRatio(ratio(rounds.map(time), opening))}`)
  print('attach()', ({ attach }) => attach)
  print('addAdapter()', ({ addAdapter }) => addAdapter)
  print('giveHead()', ({ giveHead }) => giveHead)
  print('createTrainer()', ({ createTrainer }) => createTrainer)
  print('all with the pipeline', (round) =>
    Object.values(round).reduce((sum: number, part: number) => sum + part, 0),
  )
}

/** @returns the value in the last line that the peer prints */
function runPython<Result>(...args: readonly string[]): Result {
  const { stdout, stderr, status } = spawnSync(PYTHON, [SCRIPT, ...args], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`python/fine_tuning_peer.py ${args.join(' ')} failed: ${stderr}`)
  return JSON.parse(stdout.trim().split('\n').at(-1) as string) as Result
}
