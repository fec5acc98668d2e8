/** Trainers and the other methods of a session: what affects a training, what must wait, and what ends it. */
import { createAdapter, createConfig } from '@fourierft/core'
import { readModel } from '@fourierft/onnx'
import { Tensor } from 'onnxruntime-node'
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest'
import { SHAPES } from '../__fixtures__/two-layers.js'
import type { AdaptedSession } from '../adapted-session.js'
import { createSession } from '../create-session.js'
import {
  contrastive,
  cosineSimilarity,
  createTrainer,
  crossEntropy,
  type Metric,
  meanSquaredError,
  scalarLoss,
  type Trainer,
  type TrainerOptions,
  type TrainingBatch,
} from '../index.js'
import { gradientErrors } from './__fixtures__/check-whole-gradient.js'
import { smallModel } from './__fixtures__/small-model.js'

const loss = meanSquaredError('y')
const numbers = (dims: readonly number[], phase: number) => {
  const length = dims.reduce((product, size) => product * size, 1)
  const values = Float32Array.from({ length }, (_, i) => Math.sin(1.3 * i + phase))
  return new Tensor('float32', values, dims)
}
const batch: TrainingBatch = { feeds: { x: numbers([4, 3, 12], 1) }, labels: numbers([4, 3, 8], 2) }
const configuration = createConfig({ nFrequency: 24, scaling: 150, initWeights: false })
const adapterOf = (initialSeed: number) => createAdapter(configuration, SHAPES, { initialSeed })

let session: AdaptedSession
let trainer: Trainer
/** Whether the session is open. Tests that leave it as it is share it. */
let isOpen = false

beforeEach(async () => {
  if (isOpen) return
  isOpen = true
  session = await createSession(smallModel(), {
    intraOpNumThreads: 1,
    logSeverityLevel: 3,
    // As PEFT's files: loaded, not created.
    adapters: { mine: adapterOf(1).toBytes(), other: adapterOf(2) },
  })
  trainer = await createTrainer(session, { adapter: 'mine', loss, learningRate: 0.05 })
})
async function close() {
  isOpen = false
  await trainer.release()
  await session.release().catch(() => undefined)
}
afterAll(close)

const bits = async (name = 'mine') =>
  Buffer.from((await session.getAdapter(name)).toBytes().model).toString('hex')
const output = async (options = {}) => (await session.run(batch.feeds, options)).y.data

describe('a training of a loaded adapter', () => {
  afterEach(close)

  test('goes on from its coefficients, while the session serves another adapter', async () => {
    const { loss: start } = await trainer.evaluate([batch])
    session.setAdapter('other')
    const [served, other] = [await output(), await bits('other')]
    for (let i = 0; i < 5; i++) await trainer.step(batch)
    expect(await output()).toEqual(served)
    expect(await bits('other')).toBe(other)
    expect((await trainer.evaluate([batch])).loss).toBeLessThan(start)
  })

  test('changes the rows of the trained adapter only', async () => {
    const adapters = ['other', 'mine', null, 'mine']
    const before = (await output({ adapters })) as Float32Array
    await trainer.step(batch)
    const after = (await output({ adapters })) as Float32Array
    for (const [row, name] of adapters.entries()) {
      const [a, b] = [before, after].map((data) => data.slice(24 * row, 24 * row + 24))
      if (name === 'mine') expect(b).not.toEqual(a)
      else expect(b).toEqual(a)
    }
  })

  test('does not depend on the scale and the active adapters of the session', async () => {
    await trainer.step(batch)
    const trained = await bits()
    await session.loadAdapter(adapterOf(1), { name: 'copy' })
    const another = await createTrainer(session, { adapter: 'copy', loss, learningRate: 0.05 })
    session.setScale('copy', 3)
    session.setAdapter(['other', 'copy'])
    await another.step(batch)
    await another.release()
    expect(await bits('copy')).toBe(trained)
    expect(session.scaleOf('copy')).toBe(3)
  })
})

test('a layer that the adapter replaces is trained, saved and served', async () => {
  await session.addAdapter('head', {
    targetModules: ['first'],
    modulesToSave: ['second'],
    nFrequency: 24,
    initWeights: false,
  })
  session.setAdapter('head')
  const head = await createTrainer(session, { loss, headLearningRate: 0.05 })
  for (const error of await gradientErrors(head, batch, { change: 0.1 })) expect(error).toBeLessThan(1e-3)
  const { loss: start } = await head.evaluate([batch])
  for (let i = 0; i < 5; i++) await head.step(batch)
  expect((await head.evaluate([batch])).loss).toBeLessThan(start)
  await head.release()
  const served = await output()
  const adapter = await session.getAdapter('head')
  await session.loadAdapter(adapter.toBytes(), { name: 'saved' })
  session.setAdapter('saved')
  expect(await output()).toEqual(served)
  await close()
})

test('two trainers of one adapter go on from each other’s steps', async () => {
  const second = await createTrainer(session, { adapter: 'mine', loss, learningRate: 0.05 })
  const losses: number[] = []
  for (let i = 0; i < 3; i++) losses.push((await trainer.step(batch)).loss, (await second.step(batch)).loss)
  for (const [i, value] of losses.entries()) if (i > 0) expect(value).toBeLessThan(losses[i - 1])
  expect((await second.evaluate([batch])).loss).toBe((await trainer.evaluate([batch])).loss)
  await second.release()
})

describe('during a step', () => {
  afterEach(close)

  test('the adapter cannot be deleted or merged, nor the session released', async () => {
    const running = trainer.step(batch)
    const state = { code: 'INVALID_STATE' }
    expect(() => session.deleteAdapter('mine')).toThrow(expect.objectContaining(state))
    await expect(session.mergeAdapter('mine')).rejects.toMatchObject(state)
    await expect(session.release()).rejects.toMatchObject(state)
    await running
    session.setAdapter('other')
    await session.mergeAdapter()
    await expect(trainer.step(batch)).rejects.toMatchObject(state)
    session.unmergeAdapter()
    await trainer.step(batch)
  })

  test('the trainer can be released, which waits for the run', async () => {
    const before = await bits()
    const running = trainer.step(batch).then(
      () => 'trained',
      ({ code }) => code,
    )
    // The run has started.
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
    await trainer.release()
    expect((await running) === 'trained').toBe((await bits()) !== before)
    expect(['trained', 'INVALID_STATE']).toContain(await running)
    await expect(trainer.evaluate([batch])).rejects.toMatchObject({ code: 'INVALID_STATE' })
    expect(await output()).toHaveLength(96)
  })
})

describe('after', () => {
  afterEach(close)

  test('deleteAdapter a step is rejected, also for another adapter of that name', async () => {
    session.deleteAdapter('mine')
    await expect(trainer.step(batch)).rejects.toMatchObject({ code: 'ADAPTER_NOT_FOUND' })
    await session.loadAdapter(createAdapter({ ...configuration, nFrequency: 20 }, SHAPES), { name: 'mine' })
    const before = await bits()
    await expect(trainer.step(batch)).rejects.toMatchObject({ code: 'INVALID_STATE' })
    expect(await bits()).toBe(before)
  })

  test('the release of the session its trainers are released', async () => {
    await session.release()
    for (const use of [
      () => trainer.step(batch),
      () => trainer.evaluate([batch]),
      () => trainer.fit([batch]),
    ])
      await expect(use()).rejects.toMatchObject({ code: 'INVALID_STATE' })
    await expect(createTrainer(session, { adapter: 'mine', loss })).rejects.toMatchObject({
      code: 'INVALID_STATE',
    })
  })

  test('the release of the session between two steps fit is rejected', async () => {
    const onBatchEnd = (step: number) => (step === 2 ? session.release() : undefined)
    const training = trainer.fit([batch], { epochs: 5, callbacks: { onBatchEnd } })
    await expect(training).rejects.toMatchObject({ code: 'INVALID_STATE' })
    expect(trainer.steps).toBe(2)
  })

  test('the release of the session during an evaluation the evaluation is rejected', async () => {
    const evaluation = trainer.evaluate([batch, batch, batch])
    await session.release()
    await expect(evaluation).rejects.toMatchObject({ code: 'INVALID_STATE' })
  })

  test('mergeAndUnload the trainer is released', async () => {
    const merged = await session.mergeAndUnload()
    await expect(trainer.step(batch)).rejects.toMatchObject({ code: 'INVALID_STATE' })
    await merged.release()
  })
})

describe('numbers that are not finite', () => {
  afterEach(close)

  const withInput = (value: number) => {
    const x = numbers([4, 3, 12], 1)
    x.data[5] = value
    return { feeds: { x }, labels: batch.labels }
  }

  test.each([Number.POSITIVE_INFINITY, Number.NaN, 3e38])(
    '%d in the feeds: nothing changes',
    async (value) => {
      const { loss: last } = await trainer.step(batch)
      const before = await bits()
      await expect(trainer.step(withInput(value))).rejects.toMatchObject({
        code: 'NOT_FINITE',
        message: expect.stringMatching(new RegExp(`step 2.*step before was ${last}`)),
      })
      expect(await bits()).toBe(before)
      expect(trainer.steps).toBe(1)
      // The optimiser is as before, too.
      const again = await trainer.step(batch)
      expect(again.step).toBe(2)
      expect(again.loss).toBeLessThan(last)
    },
  )

  test('the evaluation is rejected', async () => {
    const evaluation = [withInput(Number.POSITIVE_INFINITY)]
    await expect(trainer.evaluate(evaluation)).rejects.toMatchObject({ code: 'NOT_FINITE' })
  })
})

describe('batches', () => {
  const { feeds, labels } = batch as { feeds: { x: Tensor }; labels: Tensor }
  test.each([
    ['INVALID_OPTION', /input x is missing/, { feeds: {}, labels }],
    ['INVALID_OPTION', /input x: expected/, { feeds: { x: new Tensor('int64', [1n], [1, 1, 1]) }, labels }],
    ['SHAPE_MISMATCH', /input x: expected/, { feeds: { x: numbers([4, 12], 1) }, labels }],
    [
      'INVALID_OPTION',
      /labels: expected a tensor, float32; received int64/,
      { feeds, labels: new Tensor('int64', [1n], [1]) },
    ],
    [
      'INVALID_OPTION',
      /label NaN at position 0/,
      { feeds, labels: new Tensor('float32', [Number.NaN], [1, 1, 1]) },
    ],
    ['SHAPE_MISMATCH', /labels: they do not fit the output "y"/, { feeds, labels: numbers([4, 3, 7], 1) }],
    ['SHAPE_MISMATCH', /labels: they do not fit the output "y"/, { feeds, labels: numbers([4, 24], 1) }],
    [
      'INVALID_OPTION',
      /no labels that count/,
      { feeds: { x: numbers([4, 0, 12], 1) }, labels: numbers([4, 0, 8], 1) },
    ],
    [
      'INVALID_OPTION',
      /no labels that count/,
      { feeds: { x: numbers([0, 3, 12], 1) }, labels: numbers([0, 3, 8], 1) },
    ],
    ['INVALID_OPTION', /no labels that count/, []],
    ['INVALID_OPTION', /batch: expected/, feeds.x],
    ['INVALID_OPTION', /batch: expected/, null],
  ])('%s %s', async (code, message, wrong) => {
    const before = await bits()
    await expect(trainer.step(wrong as TrainingBatch)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    })
    expect(await bits()).toBe(before)
    await trainer.step(batch)
  })

  test('cross-entropy needs a label for each token, and pairs need two halves', async () => {
    const entropy = await createTrainer(session, { adapter: 'mine', loss: crossEntropy('y') })
    const classes = (dims: number[]) =>
      new Tensor('int64', new BigInt64Array(dims.reduce((a, b) => a * b, 1)), dims)
    const fit = { code: 'SHAPE_MISMATCH', message: expect.stringContaining('labels') }
    for (const dims of [[4, 2], [4, 4], [12]])
      await expect(entropy.step({ feeds, labels: classes(dims) })).rejects.toMatchObject(fit)
    await expect(
      entropy.step({ feeds: { x: numbers([4, 0, 12], 1) }, labels: classes([4, 0]) }),
    ).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringContaining('no labels that count'),
    })
    expect((await entropy.step({ feeds, labels: classes([4, 3]) })).step).toBe(1)
    await entropy.release()
  })
})

describe('createTrainer', () => {
  test.each([
    [{ loss, learningrate: 0.1 }, 'learningrate'],
    [{ loss, learningRate: -1 }, 'learningRate'],
    [{ loss, learningRate: '0.1' }, 'learningRate'],
    [{ loss, headLearningRate: Number.NaN }, 'headLearningRate'],
    [{ loss, weightDecay: Number.POSITIVE_INFINITY }, 'weightDecay'],
    [{ loss, maxGradientNorm: 0 }, 'maxGradientNorm'],
    [{ loss, adapter: 3 }, 'adapter'],
    [{}, 'loss'],
    [{ loss: 'mse' }, 'loss'],
    [undefined, 'createTrainer'],
    [{ loss: contrastive('y') }, 'loss'],
    [{ loss: cosineSimilarity('z', { pooling: 'none' }) }, 'loss'],
    [{ loss: scalarLoss('x') }, 'loss'],
  ])('rejects %j', async (options, option) => {
    await expect(createTrainer(session, options as unknown as TrainerOptions)).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      details: { option },
    })
  })

  test('fit rejects wrong options before it starts', async () => {
    const { steps } = trainer
    const cases = {
      epoch: 3,
      epochs: 1.5,
      accumulate: 0,
      schedule: 'step',
      warmup: 2,
      seed: 0.5,
      shuffle: 'yes',
      patience: 1,
      metrics: () => ({}),
      best: { metric: 'accuracy', better: 'higher' },
      signal: {},
    }
    for (const [option, value] of Object.entries(cases))
      await expect(trainer.fit([batch], { [option]: value }), option).rejects.toMatchObject({
        code: 'INVALID_OPTION',
        details: { option },
      })
    await expect(trainer.evaluate([batch], { metrics: {} as Metric })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      details: { option: 'metrics' },
    })
    const nested = [
      {
        evaluation: [batch],
        metrics: () => ({}) as Metric,
        patience: 1,
        best: { metric: 'a', better: 'up' },
      },
      { callbacks: { onBatch: () => 0 } },
      { callbacks: { onBatchEnd: 3 } },
      { checkpoint: { file: 'a' } },
      { checkpoint: {} },
      { checkpoint: { path: 'a', everySteps: 0 } },
    ]
    for (const options of nested)
      await expect(trainer.fit([batch], options as object)).rejects.toMatchObject({ code: 'INVALID_OPTION' })
    expect(trainer.steps).toBe(steps)
  })
})

test('an adapter after the output of the loss is rejected, and the session goes on', async () => {
  const model = readModel(smallModel())
  model.graph.addOutput({ name: 't' })
  const other = await createSession(model.toBytes(), { intraOpNumThreads: 1, logSeverityLevel: 3 })
  await other.addAdapter('mine', { targetModules: ['second'], nFrequency: 4 })
  await expect(createTrainer(other, { loss: meanSquaredError('t') })).rejects.toMatchObject({
    code: 'INVALID_OPTION',
    message: expect.stringContaining('the loss does not depend on'),
  })
  expect((await other.run(batch.feeds)).y.dims).toEqual([4, 3, 8])
  await other.release()
})
