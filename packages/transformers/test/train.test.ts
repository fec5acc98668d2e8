/** `train` and `evaluate`, as users call them. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { FourierFTError } from '@fourierft/core'
import { env, pipeline } from '@huggingface/transformers'
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { OUTPUT, QUERY } from '../src/__fixtures__/tiny-model.js'
import { writeTinyModels } from '../src/__fixtures__/write-tiny-model.js'
import { attach } from '../src/attach.js'
import type { ModelAdapters } from '../src/model-adapters.js'
import { evaluate } from '../src/train/evaluate.js'
import { type TrainingProgress, type TrainOptions, train } from '../src/train/train.js'

/** All of one length: the tiny model has no attention, and takes the mean of all tokens, padding included. */
const ROWS = [
  { text: 'a small model', label: 'complaint' },
  { text: 'of few words', label: 'question' },
  { text: 'model a small', label: 'complaint' },
  { text: 'few of few', label: 'question' },
  { text: 'small small model', label: 'complaint' },
  { text: 'words of words', label: 'question' },
]
const CONFIG = { targetModules: [QUERY, OUTPUT], nFrequency: 24, scaling: 30 }
/** The layers have 16 features, and small weights. */
const FAST = { epochs: 25, batchSize: 3, learningRate: 0.3, headLearningRate: 0.1 } satisfies TrainOptions

type Classify = Awaited<ReturnType<typeof open>>
const folder = writeTinyModels()
let classify: Classify
let adapters: ModelAdapters

function open() {
  return pipeline('text-classification', 'tiny-bert', { dtype: 'fp32' })
}

beforeAll(() => {
  env.localModelPath = folder
})

beforeEach(async () => {
  classify = await open()
  adapters = await attach(classify, { native: false })
  await adapters.addAdapter('mine', CONFIG)
})
afterEach(() => classify.dispose())

const labelOf = async (text: string) => {
  const [answer] = (await classify(text)) as { label: string }[]
  return answer?.label
}

describe('train', () => {
  test('learns new labels, which the pipeline then returns, also from the saved files', async () => {
    const report = await train(adapters, ROWS, { ...FAST, evaluation: ROWS })
    expect(report).toMatchObject({
      task: 'text-classification',
      adapter: 'mine',
      labels: ['complaint', 'question'],
      rows: { training: 6, evaluation: 6, cut: 0 },
      stopped: 'end',
    })
    expect(report.epochs.at(-1)?.metrics?.accuracy).toBe(1)
    expect(report.epochs.at(-1)?.loss).toBeLessThan(report.epochs[0].loss / 2)
    const answers = await Promise.all(ROWS.map(({ text }) => labelOf(text)))
    expect(answers).toEqual(ROWS.map(({ label }) => label))
    adapters.disableAdapters()
    expect(['left', 'right']).toContain(await labelOf(ROWS[0].text))

    await adapters.savePretrained(pathToFileURL(join(folder, 'mine')), { name: 'mine' })
    await adapters.detach()
    const again = await attach(classify, { native: false })
    await again.loadAdapter(pathToFileURL(join(folder, 'mine')))
    expect(await Promise.all(ROWS.map(({ text }) => labelOf(text)))).toEqual(answers)
  })

  test('keeps the head of the model if it has all labels', async () => {
    const rows = ROWS.map(({ text, label }) => ({ text, label: label === 'question' ? 'left' : 'right' }))
    const report = await train(adapters, rows, FAST)
    expect(report.labels).toEqual(['left', 'right'])
    expect((await adapters.getAdapter('mine')).savedTensors.size).toBe(0)
    expect(report.epochs.at(-1)?.loss).toBeLessThan(report.epochs[0].loss)
  })

  test('gives the same bits for the same seed, and others for another', async () => {
    const trained = async (name: string, seed: number) => {
      await adapters.addAdapter(name, CONFIG)
      await train(adapters, ROWS, { ...FAST, epochs: 2, adapter: name, seed })
      const { modules, savedTensors } = await adapters.getAdapter(name)
      return [modules.get(QUERY)?.coefficients, [...savedTensors.values()].map(({ bytes }) => bytes)]
    }
    const [first, second, other] = [await trained('a', 1), await trained('b', 1), await trained('c', 2)]
    expect(second).toEqual(first)
    expect(other).not.toEqual(first)
  })

  test('reads JSONL and CSV files', async () => {
    const lines = join(folder, 'rows.jsonl')
    writeFileSync(lines, ROWS.map((row) => JSON.stringify(row)).join('\n'))
    const table = join(folder, 'rows.csv')
    writeFileSync(table, ['label,text', ...ROWS.map(({ text, label }) => `${label},"${text}"`)].join('\n'))
    const report = await train(adapters, lines, { ...FAST, epochs: 1, evaluation: pathToFileURL(table) })
    expect(report.rows).toEqual({ training: 6, evaluation: 6, cut: 0 })
  })

  test('reports progress in the shape of transformers.js, and calls Keras’s callbacks', async () => {
    const events: TrainingProgress[] = []
    const calls: string[] = []
    await train(adapters, ROWS, {
      ...FAST,
      epochs: 2,
      progress_callback: (event) => events.push(event),
      callbacks: {
        onTrainBegin: () => calls.push('begin'),
        onBatchEnd: (step) => calls.push(`step ${step}`),
        onEpochEnd: (epoch) => calls.push(`epoch ${epoch}`),
        onTrainEnd: () => calls.push('end'),
      },
    })
    expect(calls).toEqual(['begin', 'step 1', 'step 2', 'epoch 0', 'step 3', 'step 4', 'epoch 1', 'end'])
    expect(
      events.map(({ status, name, loaded, total, progress }) => [status, name, loaded, total, progress]),
    ).toEqual([1, 2, 3, 4].map((step) => ['progress', 'mine', step, 4, 25 * step]))
  })

  test('smooths labels in the training only', async () => {
    const rows = ROWS.map(({ text }, i) => ({ text, label: i % 2 === 0 ? 'left' : 'right' }))
    const settings = { epochs: 1, learningRate: 0, headLearningRate: 0, batchSize: 6, evaluation: rows }
    const [plain] = (await train(adapters, rows, settings)).epochs
    const [smooth] = (await train(adapters, rows, { ...settings, labelSmoothing: 0.5 })).epochs
    expect(smooth.evaluationLoss).toBeCloseTo(plain.evaluationLoss ?? Number.NaN, 5)
    expect(Math.abs(smooth.loss - plain.loss)).toBeGreaterThan(5e-5)
  })

  test('cuts long rows, and counts them', async () => {
    const rows = [...ROWS, { text: 'a small model of few words '.repeat(4), label: 'question' }]
    expect((await train(adapters, rows, { ...FAST, epochs: 1 })).rows.cut).toBe(1)
  })

  test('stops on an abort, and goes on from the checkpoint to the same bits', async () => {
    const path = join(folder, 'state.safetensors')
    const options = { ...FAST, epochs: 3, seed: 3 }
    const whole = await bitsAfter('whole', () => train(adapters, ROWS, { ...options, adapter: 'whole' }))
    const controller = new AbortController()
    const onBatchEnd = (step: number) => step === 3 && controller.abort()
    const parts = await bitsAfter('parts', async () => {
      const settings = { ...options, adapter: 'parts', checkpoint: { path, resume: true } }
      const first = await train(adapters, ROWS, {
        ...settings,
        signal: controller.signal,
        callbacks: { onBatchEnd },
      })
      expect(first).toMatchObject({ stopped: 'aborted', steps: { length: 3 } })
      expect((await train(adapters, ROWS, settings)).steps).toHaveLength(3)
    })
    expect(parts).toEqual(whole)
  })

  async function bitsAfter(name: string, work: () => Promise<unknown>) {
    await adapters.addAdapter(name, CONFIG)
    await work()
    const { modules, savedTensors } = await adapters.getAdapter(name)
    return [modules.get(OUTPUT)?.coefficients, [...savedTensors.values()].map(({ bytes }) => bytes)]
  }

  test('the pipeline answers while it is trained', async () => {
    const answers: unknown[] = []
    const training = train(adapters, ROWS, {
      ...FAST,
      epochs: 2,
      callbacks: { onBatchEnd: async () => answers.push(await labelOf(ROWS[0].text)) },
    })
    await training
    expect(answers).toHaveLength(4)
    for (const answer of answers) expect(['complaint', 'question']).toContain(answer)
  })
})

describe('bad input changes nothing', () => {
  test.each<[string, unknown, TrainOptions, string | RegExp]>([
    ['no rows', [], {}, /there are no rows/],
    ['a row without a text', [{ label: 'a' }], {}, /data, row 0.*text/],
    ['a row without a label', [ROWS[0], { text: 'few' }], {}, /data, row 1.*label/],
    ['one class', [ROWS[0], ROWS[2]], {}, /complaint/],
    [
      'an unknown label in evaluation',
      ROWS,
      { evaluation: [{ text: 'a', label: 'praise' }] },
      /evaluation, row 0.*praise/,
    ],
    ['an unknown option', ROWS, { epoch: 3 } as TrainOptions, /epoch: there is no such option/],
    [
      'label smoothing of a regression',
      [{ text: 'a', label: 0.5 }],
      { labelSmoothing: 0.1 },
      /labelSmoothing/,
    ],
    ['patience without evaluation', ROWS, { patience: 1 }, /patience: it needs the option evaluation/],
    ['an unknown schedule', ROWS, { schedule: 'steps' as 'linear' }, /schedule/],
    [
      'a checkpoint in a missing folder',
      ROWS,
      { checkpoint: { path: join(folder, 'missing', 'c') } },
      /missing/,
    ],
    [
      'best without patience',
      ROWS,
      { evaluation: ROWS, best: { metric: 'f1', better: 'higher' } },
      /patience/,
    ],
    ['packing of a classification', ROWS, { packing: true }, /packing/],
    ['a count of zero', ROWS, { batchSize: 0 }, /batchSize/],
    ['an unknown adapter', ROWS, { adapter: 'yours' }, /yours/],
    ['a task that cannot be trained', ROWS, { task: 'depth-estimation' }, /depth-estimation/],
    ['a missing file', 'missing.jsonl', {}, /missing.jsonl/],
    ['a missing column', new File(['text\na'], 'rows.csv'), {}, /label/],
  ])('%s', async (_, data, options, message) => {
    const before = await adapters.getAdapter('mine')
    const error: unknown = await train(adapters, data as object[], options).catch((reason) => reason)
    expect(FourierFTError.isInstance(error), String(error)).toBe(true)
    expect(String(error)).toMatch(message)
    expect((await adapters.getAdapter('mine')).savedTensors).toEqual(before.savedTensors)
    expect(['left', 'right']).toContain(await labelOf(ROWS[0].text))
  })

  test('a pipeline instead of its adapters', async () => {
    const error: unknown = await train(classify as never, ROWS).catch((reason) => reason)
    expect(String(error)).toMatch(/adapters: expected what attach\(\) returns/)
  })

  test('two trainings of one adapter at once', async () => {
    const training = train(adapters, ROWS, FAST)
    await expect(train(adapters, ROWS, FAST)).rejects.toMatchObject({ code: 'INVALID_STATE' })
    await training
  })
})

describe('evaluate', () => {
  test('measures an adapter, and a new one as the base model', async () => {
    const rows = ROWS.map(({ text }, i) => ({ text, label: i % 2 === 0 ? 'left' : 'right' }))
    const before = await evaluate(adapters, rows)
    await train(adapters, rows, FAST)
    const after = await evaluate(adapters, rows, { batchSize: 2 })
    expect(after.loss).toBeLessThan(before.loss)
    expect(after).toMatchObject({
      task: 'text-classification',
      adapter: 'mine',
      rows: { evaluation: 6, cut: 0 },
    })
    const answers = await Promise.all(rows.map(async ({ text, label }) => (await labelOf(text)) === label))
    expect(after.metrics.accuracy).toBeCloseTo(answers.filter(Boolean).length / 6, 12)
  })

  test('rejects labels that the adapter does not have', async () => {
    await expect(evaluate(adapters, ROWS.slice(0, 1))).rejects.toMatchObject({ details: { row: 0 } })
    await expect(evaluate(adapters, ROWS)).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      details: { row: 0 },
    })
  })
})
