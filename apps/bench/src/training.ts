/**
 * Measures the training of an encoder with ONNX Runtime against PEFT on PyTorch: the processor time of a step, the peak memory, the parts of a step,
 * and the creation of a trainer. A round runs each case in a fresh process (`training-process.ts`, `python/training_peer.py`), one after the other,
 * on one thread; ratios are computed within a round.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, renameSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { inFreshProcess } from './fresh-process.js'
import { formatRatio, formatWithGoal, median, printSection, type RunLength, ratio } from './measure.js'
import { findEncoder } from './sentence-encoder.js'
import type { Creation, Split, StepCosts } from './training-process.js'

interface Size {
  readonly layers: number
  readonly width: number
  readonly rows: number
  readonly tokens: number
}

interface Plan {
  readonly size: Size
  readonly rounds: number
  /** Of one process, after a first one that is not measured. */
  readonly steps: number
}

const PLANS: Readonly<Record<RunLength, Plan>> = {
  quick: { size: { layers: 2, width: 128, rows: 2, tokens: 16 }, rounds: 1, steps: 1 },
  full: { size: { layers: 4, width: 768, rows: 8, tokens: 128 }, rounds: 5, steps: 3 },
}

const CASES = ['forward', 'native', 'lean', 'unpacked', 'portable', 'PEFT FourierFT', 'PEFT LoRA'] as const
type Name = (typeof CASES)[number]

/** The cases with `memory: 'lean'`. In the second one, the session does not pack its weights either. */
const LEAN = { lean: 'lean', unpacked: 'lean, unpacked session' } as const

/** A training step without adapters takes at least this many forward passes: two products for each layer, but one for the first. */
const FORWARD_PASSES = 1.8
const MIB = 2 ** 20
const PROCESS = new URL('training-process.js', import.meta.url).href
const SCRIPT = fileURLToPath(new URL('../python/training_peer.py', import.meta.url))
const PYTHON = process.env.FOURIERFT_PYTHON ?? 'python3'

export async function benchmarkTraining(runLength: RunLength): Promise<void> {
  if (spawnSync(PYTHON, ['-c', 'import peft, torch, transformers, onnx']).status !== 0) {
    console.log(
      '\ntraining: skipped: the benchmark needs a Python with PEFT, Transformers and ONNX; set FOURIERFT_PYTHON to its path',
    )
    return
  }
  const { size, rounds, steps } = PLANS[runLength]
  const { layers, width, rows, tokens } = size
  console.log(`\ntraining\n${runPython('versions', size).versions}, one thread`)
  const model = exportedModel(size)
  const measured = Array.from({ length: rounds }, () =>
    CASES.map((name) =>
      name.startsWith('PEFT')
        ? (runPython(name.slice('PEFT '.length), { ...size, steps }) as StepCosts)
        : inFreshProcess<StepCosts>(PROCESS, name, model, rows, tokens, steps),
    ),
  )
  const isFull = runLength === 'full'
  const split = inFreshProcess<Split>(PROCESS, 'split', model, rows, tokens, steps)
  printSection(
    'A training step of an encoder',
    `${layers} layers of ${width}, ${rows} × ${tokens} tokens, query and value, n = 1000; LoRA r = 8`,
  )
  printSteps(measured, split, isFull)
  printPeaks(measured, isFull)
  printSplit(split)
  printCreation(model, steps, isFull)
}

function printSteps(measured: readonly (readonly StepCosts[])[], split: Split, isFull: boolean): void {
  const times = (name: Name) =>
    measured.map((round) => median((round[CASES.indexOf(name)] as StepCosts).milliseconds))
  const forward = times('forward')
  const adapters = split.adapters * median(times('native'))
  const baselines: readonly (readonly [name: string, times: readonly number[], goal?: number])[] = [
    ['PEFT FourierFT', times('PEFT FourierFT'), 0.85],
    ['PEFT LoRA', times('PEFT LoRA'), 1.05],
    ["ONNX Runtime's forward pass", forward],
    [
      `${FORWARD_PASSES} forward passes and the adapters`,
      forward.map((time) => FORWARD_PASSES * time + adapters),
      1.15,
    ],
  ]
  for (const name of ['native', 'portable'] as const)
    for (const [baseline, ofBaseline, goal] of baselines) {
      const applied = isFull && name === 'native' ? goal : undefined
      console.log(
        `  ${`${name} over ${baseline}`.padEnd(52)}${formatWithGoal(times(name), ofBaseline, applied)}`,
      )
    }
  for (const [name, title] of Object.entries(LEAN))
    console.log(
      `  ${`${title}, over native`.padEnd(52)}${formatWithGoal(times(name as Name), times('native'), isFull ? 1.35 : undefined)}`,
    )
}

function printPeaks(measured: readonly (readonly StepCosts[])[], isFull: boolean): void {
  printSection(
    'Peak memory',
    'the resident memory of each process; native and portable with the serving session',
  )
  const peaks = (name: Name) => measured.map((round) => (round[CASES.indexOf(name)] as StepCosts).peak)
  for (const name of CASES) {
    const goal = isFull && name === 'native' ? 1 : undefined
    console.log(
      `  ${name.padEnd(30)}${(median(peaks(name)) / MIB).toFixed(0)} MiB   over PEFT LoRA ${formatWithGoal(peaks(name), peaks('PEFT LoRA'), goal)}`,
    )
  }
  for (const [name, title] of Object.entries(LEAN))
    console.log(
      `  ${`${title}, over native`.padEnd(52)}${formatWithGoal(peaks(name as Name), peaks('native'), isFull ? 0.6 : undefined)}`,
    )
}

function printSplit({ operators, ...parts }: Split): void {
  printSection(
    'The parts of a native step',
    "shares of the elapsed time, from ONNX Runtime's profile. optimizer: clipping and AdamW in JavaScript",
  )
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`
  const columns = (entries: readonly (readonly [string, number])[]) =>
    entries.map(([name, share]) => `${name} ${percent(share)}`).join('   ')
  console.log(`  ${columns(Object.entries(parts))}\n  ${columns(operators)}`)
}

function printCreation(model: string, steps: number, isFull: boolean): void {
  printSection(
    'Creating a trainer',
    'the processor time of createTrainer() and, before it, of addAdapter(), as multiples of createSession()',
  )
  const print = (title: string, path: string, goal?: number) => {
    const { opening, adding, training } = inFreshProcess<Creation>(
      PROCESS,
      'creation',
      path,
      1,
      8,
      isFull ? 9 : steps,
    )
    console.log(
      `  ${title.padEnd(30)}createTrainer ${formatWithGoal(training, opening, goal)}   addAdapter ${formatRatio(ratio(adding, opening))}`,
    )
  }
  print('this encoder', model)
  const encoder = findEncoder()
  if (encoder !== undefined) print('paraphrase-MiniLM-L3-v2', encoder, isFull ? 2 : undefined)
}

/** Exports the encoder of that size, unless an earlier run has. @returns the path of the model */
function exportedModel(size: Size): string {
  const name = `encoder-${size.layers}x${size.width}.onnx`
  const path = fileURLToPath(new URL(`../../../.cache/bench-training/${name}`, import.meta.url))
  if (existsSync(path)) return path
  mkdirSync(dirname(path), { recursive: true })
  const partial = `${path}.${process.pid}`
  runPython('export', size, partial)
  renameSync(partial, path)
  return path
}

interface Answer extends Partial<StepCosts> {
  readonly versions?: string
}

function runPython(what: string, options: Readonly<Record<string, number>> | Size, path?: string): Answer {
  const flags = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)])
  const { stdout, stderr, status } = spawnSync(
    PYTHON,
    [SCRIPT, what, ...(path === undefined ? [] : [path]), ...flags],
    { encoding: 'utf8' },
  )
  if (status !== 0) throw new Error(`python/training_peer.py ${what} failed: ${stderr}`)
  return JSON.parse(stdout.trim().split('\n').at(-1) as string) as Answer
}
