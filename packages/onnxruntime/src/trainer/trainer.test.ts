/** The trainer learns labels, the session serves what was learnt, and a resumed run ends with the same bits. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Adapter, loadAdapter } from '@fourierft/core'
import { readModel } from '@fourierft/onnx'
import { Tensor } from 'onnxruntime-node'
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { AdaptedSession } from '../adapted-session.js'
import { createSession } from '../create-session.js'
import {
  createTrainer,
  crossEntropy,
  type Metric,
  type StepReport,
  type Trainer,
  type TrainingBatch,
} from '../index.js'
import { smallModel } from './__fixtures__/small-model.js'

const fixture = new URL('../../../onnx/src/__fixtures__/bert-batch.onnx', import.meta.url)
const bert = new Uint8Array(readFileSync(fixture))
const model = smallModel()

/** Sentences of 5 tokens; the label is the parity of the third token. */
function makeSentences(rows: number, seed: number): TrainingBatch & { readonly classes: readonly number[] } {
  const ids = Array.from({ length: rows * 5 }, (_, i) => ((i + seed) * 7 + ((i + seed) % 11) * 3) % 30)
  const classes = Array.from({ length: rows }, (_, row) => ids[row * 5 + 2] % 2)
  return {
    feeds: { x: new Tensor('int64', BigInt64Array.from(ids, BigInt), [rows, 5]) },
    labels: new Tensor('int64', BigInt64Array.from(classes, BigInt), [rows]),
    classes,
  }
}

/** Tokens with 12 features; the label of each is the largest of the first 8. */
function makeBatch(rows: number, seed: number): TrainingBatch & { readonly classes: readonly number[] } {
  const x = Float32Array.from({ length: rows * 60 }, (_, i) => Math.sin(7.3 * (i + 60 * seed) ** 1.5))
  const classes = Array.from({ length: rows * 5 }, (_, token) => {
    const features = x.slice(12 * token, 12 * token + 8)
    return features.indexOf(Math.max(...features))
  })
  return {
    feeds: { x: new Tensor('float32', x, [rows, 5, 12]) },
    labels: new Tensor('int64', BigInt64Array.from(classes, BigInt), [rows, 5]),
    classes,
  }
}

const batches = Array.from({ length: 6 }, (_, i) => makeBatch(4, 4 * i))
const config = { targetModules: ['first', 'second'], nFrequency: 60, initWeights: false }
const loss = crossEntropy('y')

/** The share of tokens whose largest output is that of their label. */
function accuracy(): Metric {
  let [right, count] = [0, 0]
  return {
    add({ data }, { labels }) {
      const outputs = data as Float32Array
      for (const [token, label] of ((labels as Tensor).data as BigInt64Array).entries()) {
        const ofToken = outputs.slice(8 * token, 8 * token + 8)
        if (ofToken.indexOf(Math.max(...ofToken)) === Number(label)) right++
        count++
      }
    },
    result: () => ({ accuracy: right / count }),
  }
}

let session: AdaptedSession
let trainer: Trainer
let folder: string
/** Whether the session is open. Tests that leave it as it is share it. */
let isOpen = false

async function open({
  native = true,
  file = model as string | URL | Uint8Array,
  targetModules = config.targetModules,
} = {}) {
  isOpen = true
  session = await createSession(file, { native, intraOpNumThreads: 1, logSeverityLevel: 3 })
  await session.addAdapter('mine', { ...config, targetModules })
  trainer = await createTrainer(session, { adapter: 'mine', loss })
}

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'fourierft-trainer-'))
  if (!isOpen) await open()
})
afterEach(() => rmSync(folder, { recursive: true }))

async function close() {
  isOpen = false
  await trainer.release()
  await session.release()
}
afterAll(close)

/** The bits of the trained coefficients. */
const bits = async () => Buffer.from((await session.getAdapter('mine')).toBytes().model).toString('hex')

async function again() {
  await close()
  await open()
}

describe('steps', () => {
  afterEach(close)

  test.each([true, false])(
    'teach the labels to an exported model, and the session gives the trained outputs (native: %s)',
    async (native) => {
      await close()
      await open({ native, file: bert, targetModules: ['query', 'value', 'dense'] })
      const { classes, ...batch } = makeSentences(16, 0)
      const losses: number[] = []
      for (let i = 0; i < 80; i++) losses.push((await trainer.step(batch)).loss)
      expect(losses.at(-1)).toBeLessThan(losses[0] / 2)
      // The session computes the loss that the next step starts from.
      const { y } = await session.run(batch.feeds)
      const logits = y.data as Float32Array
      const entropies = classes.map((label, row) => {
        const [chosen, other] = [logits[2 * row + label], logits[2 * row + 1 - label]]
        return Math.log1p(Math.exp(other - chosen))
      })
      const served = entropies.reduce((sum, entropy) => sum + entropy, 0) / classes.length
      expect((await trainer.step(batch)).loss).toBeCloseTo(served, 5)
    },
  )

  test('change what a run gives, not what a run that has started gives', async () => {
    const [batch] = batches
    const before = await session.run(batch.feeds)
    const running = session.run(batch.feeds)
    await trainer.step(batch)
    expect((await running).y.data).toEqual(before.y.data)
    expect((await session.run(batch.feeds)).y.data).not.toEqual(before.y.data)
  })

  test('of several batches equal the step of one batch with all rows', async () => {
    const rows = makeBatch(8, 0)
    const x = rows.feeds.x.data as Float32Array
    const labels = rows.labels?.data as BigInt64Array
    const halves = [0, 1].map((half) => ({
      feeds: { x: new Tensor('float32', x.slice(half * 240, half * 240 + 240), [4, 5, 12]) },
      labels: new Tensor('int64', labels.slice(half * 20, half * 20 + 20), [4, 5]),
    }))
    const whole = await trainer.step(rows)
    await again()
    const parts = await trainer.step(halves)
    expect(parts.loss).toBeCloseTo(whole.loss, 6)
    expect(parts.gradientNorm).toBeCloseTo(whole.gradientNorm, 6)
  })

  test('save an adapter that gives the same outputs in a new session', async () => {
    for (const batch of batches) await trainer.step(batch)
    const trained = await session.run(batches[0].feeds)
    await session.savePretrained(join(folder, 'mine'), { name: 'mine' })
    const other = await createSession(model, {
      adapters: join(folder, 'mine'),
      intraOpNumThreads: 1,
      logSeverityLevel: 3,
    })
    expect((await other.run(batches[0].feeds)).y.data).toEqual(trained.y.data)
    await other.release()
    expect(Adapter.isInstance(await loadAdapter(join(folder, 'mine')))).toBe(true)
  })

  test('use the rates of FourierFT by default, and warn about those of LoRA', async () => {
    expect(trainer.learningRate).toBe(7.5 / (await session.getAdapter('mine')).config.scaling)
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined)
    const slow = await createTrainer(session, { loss, learningRate: 1e-4 })
    expect(warn).toHaveBeenCalledWith(expect.stringContaining('hardly changes'))
    warn.mockRestore()
    await slow.release()
  })
})

describe('fit', () => {
  afterEach(close)

  test('gives the same bits for the same seed, others for another seed', async () => {
    await trainer.fit(batches, { epochs: 2, seed: 1 })
    const first = await bits()
    await again()
    await trainer.fit(batches, { epochs: 2, seed: 1 })
    expect(await bits()).toBe(first)
    await again()
    await trainer.fit(batches, { epochs: 2, seed: 2 })
    expect(await bits()).not.toBe(first)
  })

  test('calls back in the order of the steps, and reports them', async () => {
    const calls: string[] = []
    const report = await trainer.fit(batches, {
      epochs: 2,
      accumulate: 4,
      evaluation: batches.slice(0, 2),
      callbacks: {
        onTrainBegin: () => calls.push('train'),
        onEpochBegin: (epoch) => calls.push(`epoch ${epoch}`),
        onBatchEnd: (step) => calls.push(`step ${step}`),
        onEpochEnd: (epoch, { evaluationLoss }) => calls.push(`end ${epoch} ${evaluationLoss !== undefined}`),
        onTrainEnd: ({ stopped }) => calls.push(stopped),
      },
    })
    const expected = [
      'train',
      'epoch 0',
      'step 1',
      'step 2',
      'end 0 true',
      'epoch 1',
      'step 3',
      'step 4',
      'end 1 true',
      'end',
    ]
    expect(calls).toEqual(expected)
    expect(report.steps.map(({ step }) => step)).toEqual([1, 2, 3, 4])
    expect(report.epochs).toHaveLength(2)
  })

  let uninterrupted: string | undefined
  test.each([1, 5, 6, 7, 13])(
    'resumes after %i steps with the bits of a run without interruption',
    async (stop) => {
      const options = { epochs: 3, evaluation: batches.slice(0, 2), patience: 3 }
      if (uninterrupted === undefined) {
        await trainer.fit(batches, options)
        uninterrupted = await bits()
        await again()
      }
      const path = join(folder, 'run.safetensors')
      const abort = new AbortController()
      const onBatchEnd = (step: number) => step === stop && abort.abort()
      const first = await trainer.fit(batches, {
        ...options,
        checkpoint: { path },
        signal: abort.signal,
        callbacks: { onBatchEnd },
      })
      expect(first.stopped).toBe('aborted')
      await again()
      const rest = await trainer.fit(batches, { ...options, checkpoint: { path, resume: true } })
      expect(first.steps.length + rest.steps.length).toBe(18)
      expect(await bits()).toBe(uninterrupted)
    },
  )

  test('stops early and restores the best adapter', async () => {
    const worse = batches.map(({ feeds, classes }) => ({
      feeds,
      labels: new Tensor(
        'int64',
        BigInt64Array.from(classes, (label) => BigInt((label + 1) % 8)),
        [4, 5],
      ),
    }))
    const evaluated: string[] = []
    const path = join(folder, 'run.safetensors')
    const options = { epochs: 20, evaluation: worse, patience: 2, schedule: 'constant' } as const
    const report = await trainer.fit(batches, {
      ...options,
      checkpoint: { path },
      callbacks: { onEpochEnd: async () => evaluated.push(await bits()) },
    })
    expect(report.stopped).toBe('early')
    const losses = report.epochs.map(({ evaluationLoss = 0 }) => evaluationLoss)
    const best = await bits()
    expect(best).toBe(evaluated[losses.indexOf(Math.min(...losses))])
    // The run may have been killed after its last checkpoint.
    await again()
    const resumed = await trainer.fit(batches, { ...options, checkpoint: { path, resume: true } })
    expect(resumed).toMatchObject({ stopped: 'early', steps: [] })
    expect(await bits()).toBe(best)
  })

  test('measures metrics after each epoch, and keeps the adapter that is best by one of them', async () => {
    const evaluated: string[] = []
    const options = {
      epochs: 4,
      evaluation: batches.slice(0, 2),
      metrics: accuracy,
      patience: 4,
      best: { metric: 'accuracy', better: 'lower' },
      schedule: 'constant',
    } as const
    const path = join(folder, 'run.safetensors')
    const report = await trainer.fit(batches, {
      ...options,
      checkpoint: { path },
      callbacks: { onEpochEnd: async () => evaluated.push(await bits()) },
    })
    const accuracies = report.epochs.map(({ metrics }) => metrics?.accuracy ?? Number.NaN)
    expect(report.stopped).toBe('end')
    // Training raises the accuracy, so the first evaluation has the lowest one.
    expect(accuracies.at(-1)).toBeGreaterThan(accuracies[0])
    const lowest = accuracies.indexOf(Math.min(...accuracies))
    expect(lowest).toBeLessThan(3)
    const best = await bits()
    expect(best).toBe(evaluated[lowest])
    // A resumed run knows the best evaluation, and what it was judged by.
    await again()
    const resume = { ...options, checkpoint: { path, resume: true } }
    await trainer.fit(batches, resume)
    expect(await bits()).toBe(best)
    const { best: _, ...byLoss } = resume
    await expect(trainer.fit(batches, byLoss)).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      details: { option: 'checkpoint' },
    })
    await expect(
      trainer.fit(batches, { ...options, epochs: 1, best: { metric: 'f1', better: 'higher' } }),
    ).rejects.toMatchObject({ code: 'INVALID_OPTION', message: expect.stringContaining('accuracy') })
  })

  test('a second fit has the whole schedule, and so has one after single steps', async () => {
    const ratesOf = async () =>
      (await trainer.fit(batches, { epochs: 1 })).steps.map(({ learningRate }) => learningRate)
    const first = await ratesOf()
    await trainer.step(batches[0])
    expect(await ratesOf()).toEqual(first)
  })

  test.each([
    { totalSteps: 3, option: 'totalSteps' },
    { evaluation: [], option: 'evaluation' },
  ])('rejects $option that does not fit the data', async ({ option, ...options }) => {
    await expect(trainer.fit(batches, options)).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      details: { option },
    })
  })

  test('reads counted data anew for each epoch, with the schedule of an array', async () => {
    const opened: number[] = []
    const data = {
      length: batches.length,
      batches(epoch: number) {
        opened.push(epoch)
        return batches
      },
    }
    const counted = await trainer.fit(data, { epochs: 2, evaluation: data })
    expect(opened).toEqual([0, 0, 1, 0])
    await again()
    const { steps } = await trainer.fit(batches, { epochs: 2, shuffle: false })
    const losses = (of: readonly StepReport[]) => of.map(({ loss, learningRate }) => [loss, learningRate])
    expect(losses(steps)).toEqual(losses(counted.steps))
  })

  test('reads data from a function for each epoch', async () => {
    const opened: number[] = []
    async function* data(epoch: number) {
      opened.push(epoch)
      yield* batches
    }
    const report = await trainer.fit((epoch) => data(epoch), { epochs: 2, totalSteps: 12 })
    expect(opened).toEqual([0, 1])
    expect(report.steps).toHaveLength(12)
  })
})

test('a metric sees the outputs that the session gives, and the batches', async () => {
  for (const batch of batches) await trainer.step(batch)
  const seen: { readonly output: Float32Array; readonly batch: TrainingBatch }[] = []
  const metrics = {
    add: ({ data }: { readonly data: unknown }, batch: TrainingBatch) =>
      seen.push({ output: data as Float32Array, batch }),
    result: () => ({ batches: seen.length }),
  }
  const evaluation = await trainer.evaluate(batches.slice(0, 2), { metrics })
  const { loss: withoutMetrics } = await trainer.evaluate(batches.slice(0, 2))
  expect(evaluation.metrics).toEqual({ batches: 2 })
  expect(evaluation.loss).toBeCloseTo(withoutMetrics, 5)
  for (const [i, { output, batch }] of seen.entries()) {
    expect(batch).toBe(batches[i])
    const { y } = await session.run(batch.feeds)
    for (const [k, value] of (y.data as Float32Array).entries()) expect(output[k]).toBeCloseTo(value, 4)
  }
  await close()
})

describe('bad input', () => {
  const [batch] = batches

  test.each([
    ['labels that are missing', () => trainer.step({ feeds: batch.feeds }), 'INVALID_OPTION', /labels/],
    [
      'labels that do not count',
      () =>
        trainer.step({
          feeds: batch.feeds,
          labels: new Tensor('int64', new BigInt64Array(20).fill(-100n), [4, 5]),
        }),
      'INVALID_OPTION',
      /no labels that count/,
    ],
    [
      'labels out of range',
      () =>
        trainer.step({
          feeds: batch.feeds,
          labels: new Tensor('int64', new BigInt64Array(20).fill(8n), [4, 5]),
        }),
      'INVALID_OPTION',
      /label 8.*\[0, 8\)/,
    ],
    [
      'an output that the model lacks',
      () => createTrainer(session, { loss: crossEntropy('logits') }),
      'INVALID_OPTION',
      /has no output "logits"/,
    ],
    [
      'an adapter that is not loaded',
      () => createTrainer(session, { adapter: 'other', loss }),
      'ADAPTER_NOT_FOUND',
      /other/,
    ],
    ['no batches', () => trainer.fit([]), 'INVALID_OPTION', /at least one batch/],
    ['epochs below 1', () => trainer.fit(batches, { epochs: 0 }), 'INVALID_OPTION', /epochs/],
    ['data of unknown length', () => trainer.fit(() => batches), 'INVALID_OPTION', /totalSteps/],
    [
      'data that can be read only once',
      () => trainer.fit(batches.values(), { totalSteps: 12, epochs: 2 }),
      'INVALID_OPTION',
      /only once/,
    ],
  ])('%s', async (_, work, code, message) => {
    const before = await bits()
    await expect(work()).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
    if (code !== 'INVALID_OPTION' || !String(message).includes('once')) expect(await bits()).toBe(before)
    expect((await session.run(batch.feeds)).y.dims).toEqual([4, 5, 8])
  })

  test('a checkpoint that was cut off, or of another adapter', async () => {
    const path = join(folder, 'run.safetensors')
    await trainer.fit(batches, { epochs: 1, checkpoint: { path } })
    const whole = readFileSync(path)
    const trained = await bits()
    writeFileSync(path, whole.subarray(0, whole.length - 10))
    const resume = { epochs: 2, checkpoint: { path, resume: true } }
    await expect(trainer.fit(batches, resume)).rejects.toMatchObject({ code: 'INVALID_SAFETENSORS' })
    writeFileSync(path, whole)
    await session.addAdapter('other', { ...config, nFrequency: 50 })
    const other = await createTrainer(session, { adapter: 'other', loss })
    await expect(other.fit(batches, resume)).rejects.toMatchObject({ code: 'INVALID_OPTION' })
    await other.release()
    expect(await bits()).toBe(trained)
    for (const options of [{ seed: 1 }, { accumulate: 2 }, { shuffle: false }])
      await expect(trainer.fit(batches, { ...resume, ...options })).rejects.toMatchObject({
        code: 'INVALID_OPTION',
        message: expect.stringContaining('6 batches, shuffled with seed 0, accumulate 1'),
      })
    await close()
    await open({ file: smallModel(1) })
    await expect(trainer.fit(batches, resume)).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringContaining('belongs to another model or adapter'),
    })
    await close()
  })

  test('a checkpoint of the same file with other weights, which are in external data; a copy under another name is the same model', async () => {
    const write = (name: string, phase: number) => {
      const external = readModel(smallModel(phase), { file: name })
      const parts: Uint8Array[] = []
      let offset = 0
      for (const tensor of external.graph.initializers.values()) {
        const data = tensor.data() as Uint8Array
        parts.push(data.slice())
        tensor.setData({ location: `${name}.bin`, offset, length: data.length })
        offset += data.length
      }
      writeFileSync(join(folder, `${name}.bin`), Buffer.concat(parts))
      writeFileSync(join(folder, name), external.toBytes())
      return join(folder, name)
    }
    const path = join(folder, 'run.safetensors')
    await close()
    await open({ file: write('model.onnx', 0) })
    await trainer.fit(batches, { epochs: 1, checkpoint: { path } })
    const resume = { epochs: 2, checkpoint: { path, resume: true } }
    await close()
    await open({ file: write('copy.onnx', 0) })
    expect((await trainer.fit(batches, resume)).steps).toHaveLength(6)
    await close()
    await open({ file: write('model.onnx', 1) })
    await expect(trainer.fit(batches, resume)).rejects.toThrow('belongs to another model or adapter')
    await close()
  })

  test('a checkpoint that cannot be written, before the first step', async () => {
    const { steps } = trainer
    const checkpoint = { path: join(folder, 'missing', 'run.safetensors') }
    await expect(trainer.fit(batches, { checkpoint })).rejects.toMatchObject({ code: 'IO_ERROR' })
    expect(trainer.steps).toBe(steps)
  })

  test('two steps of one adapter at the same time, and a released trainer', async () => {
    const running = trainer.step(batch)
    await expect(trainer.step(batch)).rejects.toMatchObject({ code: 'INVALID_STATE' })
    await running
    await trainer.release()
    await expect(trainer.step(batch)).rejects.toMatchObject({ code: 'INVALID_STATE' })
  })
})
