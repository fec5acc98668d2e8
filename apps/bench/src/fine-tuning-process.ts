/**
 * Measures one case of the benchmark `fine-tuning`. It runs as a program in a fresh process, and prints one line of JSON:
 *
 *     node fine-tuning-process.js train | start | start-up <folder>
 *
 * `start` writes the untrained adapter with its new head, from which PEFT starts.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createTrainer, crossEntropy } from '@fourierft/onnxruntime'
import { attach, type ModelAdapters, train } from '@fourierft/transformers'
import { env, pipeline } from '@huggingface/transformers'
import type { Settings } from './fine-tuning-files.js'
import { peakMemory } from './fresh-process.js'

/** Milliseconds of processor time. `fine_tuning_peer.py` prints the same. */
export interface FineTuning {
  /** From the start of the process until the model is open, with its adapter. */
  readonly opening: number
  /** From then until the first step: the rows are read and tokenised, and the trainer is created. */
  readonly preparation: number
  readonly epochs: readonly {
    readonly training: number
    readonly evaluation: number
    /** The end of the evaluation, since the start of the preparation. */
    readonly end: number
    /** Of the held-out rows. */
    readonly loss: number
    readonly accuracy: number
  }[]
  /** Of the whole process. */
  readonly total: number
  /** Bytes: the peak of the resident memory. */
  readonly peak: number
}

/** Milliseconds of processor time of each part. */
export interface StartUp {
  readonly pipeline: number
  readonly attach: number
  readonly addAdapter: number
  /** `train` does this for new labels. */
  readonly giveHead: number
  readonly createTrainer: number
}

const NAME = 'mails'

const processorTime = () => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

const [what, folder] = process.argv.slice(2) as [string, string]
const settings: Settings = JSON.parse(readFileSync(join(folder, 'settings.json'), 'utf8'))
env.localModelPath = folder
env.allowRemoteModels = false

const open = () =>
  pipeline('text-classification', 'minilm', {
    dtype: 'fp32',
    session_options: { intraOpNumThreads: 1, interOpNumThreads: 1 },
  })

async function addAdapter(adapters: ModelAdapters): Promise<void> {
  const { targetModules, nFrequency } = settings
  await adapters.addAdapter(NAME, { targetModules, nFrequency })
}

const giveHead = (adapters: ModelAdapters) =>
  adapters.giveHead(
    NAME,
    { names: settings.labels, problemType: 'single_label_classification' },
    { seed: settings.seed, taskType: 'SEQ_CLS' },
  )

async function fineTune(): Promise<FineTuning> {
  const adapters = await attach(await open())
  await addAdapter(adapters)
  const opening = processorTime()
  const marks: { readonly begin: number; lastStep: number; end: number }[] = []
  const last = () => marks[marks.length - 1]
  const { epochs, batchSize, maxLength, learningRate, headLearningRate, weightDecay } = settings
  const { maxGradientNorm, warmup, seed } = settings
  const report = await train(adapters, join(folder, 'training.jsonl'), {
    evaluation: join(folder, 'held.jsonl'),
    epochs,
    batchSize,
    maxLength,
    learningRate,
    headLearningRate,
    weightDecay,
    maxGradientNorm,
    warmup,
    seed,
    callbacks: {
      onEpochBegin: () => marks.push({ begin: processorTime(), lastStep: 0, end: 0 }),
      onBatchEnd: () => {
        last().lastStep = processorTime()
      },
      onEpochEnd: () => {
        last().end = processorTime()
      },
    },
  })
  return {
    opening,
    preparation: marks[0].begin - opening,
    epochs: report.epochs.map(({ evaluationLoss, metrics }, i) => {
      const { begin, lastStep, end } = marks[i]
      return {
        training: lastStep - begin,
        evaluation: end - lastStep,
        end: end - opening,
        loss: evaluationLoss as number,
        accuracy: metrics?.accuracy as number,
      }
    }),
    total: processorTime(),
    peak: peakMemory(),
  }
}

async function saveStart(): Promise<void> {
  const adapters = await attach(await open())
  await addAdapter(adapters)
  await giveHead(adapters)
  await adapters.savePretrained(join(folder, 'start'), { name: NAME })
}

async function startUp(): Promise<StartUp> {
  const marks = [processorTime()]
  const mark = () => marks.push(processorTime())
  const classify = await open()
  mark()
  const adapters = await attach(classify)
  mark()
  await addAdapter(adapters)
  mark()
  await giveHead(adapters)
  mark()
  await createTrainer(adapters, { adapter: NAME, loss: crossEntropy('logits') })
  mark()
  const part = (i: number) => marks[i + 1] - marks[i]
  return {
    pipeline: part(0),
    attach: part(1),
    addAdapter: part(2),
    giveHead: part(3),
    createTrainer: part(4),
  }
}

const programs: Readonly<Record<string, () => Promise<unknown>>> = {
  train: fineTune,
  start: saveStart,
  'start-up': startUp,
}
console.log(JSON.stringify((await programs[what]?.()) ?? null))
