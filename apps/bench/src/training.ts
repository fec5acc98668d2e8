/**
 * Measures the training of transformers with ONNX Runtime against PEFT on PyTorch: the processor time of a step, the peak memory, the parts of a
 * step, and the creation of a trainer. A round runs each case in a fresh process (`training-process.ts`, `python/training_peer.py`), one after the
 * other, on one thread; ratios are computed within a round.
 */
import { inFreshProcess, type StepCosts } from './fresh-process.js'
import { formatRatio, formatWithGoal, median, printSection, type RunLength, ratio } from './measure.js'
import { findEncoder } from './sentence-encoder.js'
import {
  exportedModel,
  peerSteps,
  peerVersions,
  quantisedModel,
  type TrainedModel,
} from './training-models.js'
import type { Creation, Split } from './training-process.js'

const QUICK = { layers: 2, width: 128, rows: 2, tokens: 16 }
const ENCODER: TrainedModel = { kind: 'encoder', layers: 4, width: 768, rows: 8, tokens: 128 }
const DECODER: TrainedModel = { kind: 'decoder', layers: 6, width: 768, rows: 4, tokens: 256 }

/** A training step without adapters takes at least this many forward passes: two products for each layer, but one for the first. */
const FORWARD_PASSES = 1.8
const MIB = 2 ** 20
const PROCESS = new URL('training-process.js', import.meta.url).href

export const benchmarkTraining = async (runLength: RunLength) => {
  const model = sized(ENCODER, runLength)
  const { steps } = againstPeers(model, runLength, 5)
  printCreation(exportedModel(model), runLength === 'full' ? 9 : steps, runLength)
}

export const benchmarkTwelveLayers = async (runLength: RunLength) => {
  againstPeers(sized({ ...ENCODER, layers: 12 }, runLength), runLength, 3)
}

export const benchmarkDecoder = async (runLength: RunLength) => {
  againstPeers(sized(DECODER, runLength), runLength, 3)
}

/** Compares a model of 4-bit weights with the same model in float32. */
export async function benchmarkQuantised(runLength: RunLength): Promise<void> {
  const model = sized(DECODER, runLength)
  const isFull = runLength === 'full'
  const steps = isFull ? 3 : 1
  console.log(`\ntraining of 4-bit weights\n${peerVersions()}, one thread`)
  const [float, quantised] = [exportedModel(model), quantisedModel(model)]
  const cases: Cases = {
    'q4, forward': () => measure('forward', quantised, model, steps),
    'float32, native': () => measure('native', float, model, steps),
    'q4, native': () => measure('native', quantised, model, steps),
    'q4, portable': () => measure('portable', quantised, model, steps),
  }
  const measured = rounds(cases, isFull ? 3 : 1)
  printSection('A training step with weights of 4 bits', describe(model))
  const baseline = 'float32, native'
  const goal = isFull ? 1.3 : undefined
  printRatio(measured, 'q4, native', baseline, 'time', goal)
  printRatio(measured, 'q4, portable', baseline, 'time')
  printRatio(measured, 'q4, native', 'q4, forward', 'time')
  printPeaks(measured, baseline, { name: 'q4, native', ...(isFull && { goal: 1 }) })
  printSplit(inFreshProcess<Split>(PROCESS, 'split', quantised, model.kind, model.rows, model.tokens, steps))
}

const sized = (model: TrainedModel, runLength: RunLength): TrainedModel =>
  runLength === 'full' ? model : { ...QUICK, kind: model.kind }

const describe = ({ kind, layers, width, rows, tokens }: TrainedModel) =>
  `${kind}, ${layers} layers of ${width}, ${rows} × ${tokens} tokens, query and value, n = 1000; LoRA r = 8`

function measure(
  name: 'forward' | 'native' | 'lean' | 'unpacked' | 'portable',
  path: string,
  { kind, rows, tokens }: TrainedModel,
  steps: number,
): StepCosts {
  return inFreshProcess<StepCosts>(PROCESS, name, path, kind, rows, tokens, steps)
}

/** Compares training with PEFT on PyTorch and with the forward pass, and prints everything. */
function againstPeers(
  model: TrainedModel,
  runLength: RunLength,
  roundCount: number,
): { readonly steps: number } {
  const isFull = runLength === 'full'
  const steps = isFull ? 3 : 1
  console.log(`\ntraining\n${peerVersions()}, one thread`)
  const path = exportedModel(model)
  const cases: Cases = {
    forward: () => measure('forward', path, model, steps),
    native: () => measure('native', path, model, steps),
    lean: () => measure('lean', path, model, steps),
    'lean, unpacked session': () => measure('unpacked', path, model, steps),
    portable: () => measure('portable', path, model, steps),
    'PEFT FourierFT': () => peerSteps('FourierFT', model, steps),
    'PEFT LoRA': () => peerSteps('LoRA', model, steps),
  }
  const measured = rounds(cases, isFull ? roundCount : 1)
  const split = inFreshProcess<Split>(PROCESS, 'split', path, model.kind, model.rows, model.tokens, steps)
  printSection('A training step', describe(model))
  for (const name of ['native', 'portable']) {
    const goal = (limit: number) => (isFull && name === 'native' ? limit : undefined)
    printRatio(measured, name, 'PEFT FourierFT', 'time', goal(0.85))
    printRatio(measured, name, 'PEFT LoRA', 'time', goal(1.05))
    printRatio(measured, name, 'forward', 'time')
    const adapters = split.adapters * median(times(measured, 'native'))
    const bound = times(measured, 'forward').map((time) => FORWARD_PASSES * time + adapters)
    printLine(
      `${name} over ${FORWARD_PASSES} forward passes and the adapters`,
      formatWithGoal(times(measured, name), bound, goal(1.15)),
    )
  }
  for (const name of ['lean', 'lean, unpacked session']) {
    printRatio(measured, name, 'native', 'time', isFull ? 1.35 : undefined)
    printRatio(measured, name, 'native', 'peak', isFull ? 0.6 : undefined)
  }
  printPeaks(measured, 'PEFT LoRA', { name: 'native', ...(isFull && { goal: 1 }) })
  printSplit(split)
  return { steps }
}

type Cases = Readonly<Record<string, () => StepCosts>>
/** Case → its costs in each round. */
export type Measured = Readonly<Record<string, readonly StepCosts[]>>

/** Runs all cases in turn, several times. */
export function rounds(cases: Cases, count: number): Measured {
  const measured: Record<string, StepCosts[]> = {}
  for (let round = 0; round < count; round++)
    for (const [name, run] of Object.entries(cases)) {
      measured[name] ??= []
      measured[name].push(run())
    }
  return measured
}

const times = (measured: Measured, name: string) =>
  (measured[name] ?? []).map(({ milliseconds }) => median(milliseconds))

const peaks = (measured: Measured, name: string) => (measured[name] ?? []).map(({ peak }) => peak)

/** Prints the spread of the ratio of two cases. */
export function printRatio(
  measured: Measured,
  name: string,
  baseline: string,
  cost: 'time' | 'peak',
  goal?: number,
): void {
  const costs = cost === 'time' ? times : peaks
  printLine(
    `${name} over ${baseline}${cost === 'peak' ? ', peak memory' : ''}`,
    formatWithGoal(costs(measured, name), costs(measured, baseline), goal),
  )
}

const printLine = (title: string, text: string) => console.log(`  ${title.padEnd(52)}${text}`)

/** Prints the peak memory of all cases. One of them may have a goal. */
export function printPeaks(
  measured: Measured,
  baseline: string,
  { name: withGoal, goal }: { readonly name: string; readonly goal?: number },
): void {
  printSection(
    'Peak memory',
    'the resident memory of each process; native and portable with the serving session',
  )
  for (const name of Object.keys(measured)) {
    const mebibytes = `${(median(peaks(measured, name)) / MIB).toFixed(0)} MiB`
    const over = formatWithGoal(
      peaks(measured, name),
      peaks(measured, baseline),
      name === withGoal ? goal : undefined,
    )
    console.log(`  ${name.padEnd(30)}${mebibytes}   over ${baseline} ${over}`)
  }
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

function printCreation(model: string, repeats: number, runLength: RunLength): void {
  printSection(
    'Creating a trainer',
    'the processor time of createTrainer() and, before it, of addAdapter(), as multiples of createSession()',
  )
  const print = (title: string, path: string, goal?: number) => {
    const { opening, adding, training } = inFreshProcess<Creation>(
      PROCESS,
      'creation',
      path,
      'encoder',
      1,
      8,
      repeats,
    )
    console.log(
      `  ${title.padEnd(30)}createTrainer ${formatWithGoal(training, opening, goal)}   addAdapter ${formatRatio(ratio(adding, opening))}`,
    )
  }
  print('this encoder', model)
  const encoder = findEncoder()
  if (encoder !== undefined) print('paraphrase-MiniLM-L3-v2', encoder, runLength === 'full' ? 2 : undefined)
}
