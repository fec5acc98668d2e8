/** A trainer changes the adapter of a pipeline, which answers meanwhile. */
import { createTrainer, crossEntropy, type Trainer, type TrainingBatch } from '@fourierft/onnxruntime'
import { env, LogLevel, pipeline, type Tensor as TransformersTensor } from '@huggingface/transformers'
import { Tensor } from 'onnxruntime-common'
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { adapterFor, OUTPUT, QUERY } from './__fixtures__/tiny-model.js'
import { writeTinyModels } from './__fixtures__/write-tiny-model.js'
import { attach } from './attach.js'
import type { ModelAdapters } from './model-adapters.js'

const MODELS = writeTinyModels()
beforeAll(() => {
  env.localModelPath = MODELS
  env.allowRemoteModels = false
  env.logLevel = LogLevel.NONE
})

const TEXTS = ['a small model', 'words of few']
const loss = crossEntropy('logits')

const load = () => pipeline('text-classification', 'tiny-bert', { dtype: 'fp32' })
let classify: Awaited<ReturnType<typeof load>>
let adapters: ModelAdapters
let trainer: Trainer

beforeEach(async () => {
  classify = await load()
  adapters = await attach(classify)
  await adapters.loadAdapter(adapterFor(1), { name: 'mine' })
  trainer = await createTrainer(adapters, { adapter: 'mine', loss, learningRate: 1 })
})
afterEach(async () => {
  await classify.dispose().catch(() => undefined)
})

/** The two texts, the first with label 0, the second with label 1. */
function makeBatch(): TrainingBatch {
  const inputs: Record<string, TransformersTensor> = classify.tokenizer(TEXTS, { padding: true })
  const { input_ids, attention_mask } = inputs
  return {
    feeds: { input_ids: input_ids.ort_tensor, attention_mask: attention_mask.ort_tensor },
    labels: new Tensor('int64', [0n, 1n], [2]),
  }
}

/** The mean cross-entropy of the pipeline's answers. */
async function servedLoss(): Promise<number> {
  const { logits } = await classify.model(classify.tokenizer(TEXTS, { padding: true }))
  const [[a, b], [c, d]] = logits.tolist() as [[number, number], [number, number]]
  return (Math.log1p(Math.exp(b - a)) + Math.log1p(Math.exp(c - d))) / 2
}

test('calls see the adapter as the last step has left it', async () => {
  const batch = makeBatch()
  const losses: number[] = []
  for (let i = 0; i < 12; i++) {
    const served = await servedLoss()
    losses.push((await trainer.step(batch)).loss)
    expect(losses.at(-1)).toBeCloseTo(served, 5)
  }
  expect(losses.at(-1)).toBeLessThan(losses[0] / 2)
  let outputs: unknown
  const metrics = {
    add({ data }: { readonly data: unknown }) {
      outputs = data
    },
    result: () => ({ batches: 1 }),
  }
  expect((await trainer.evaluate([batch], { metrics })).metrics).toEqual({ batches: 1 })
  const { logits } = await classify.model(classify.tokenizer(TEXTS, { padding: true }))
  for (const [i, value] of (outputs as Float32Array).entries()) expect(value).toBeCloseTo(logits.data[i], 5)
  const [first] = await classify(TEXTS[0])
  expect(first).toMatchObject({ label: 'left' })
})

test('a call that has started keeps the adapter of its start', async () => {
  const before = await classify(TEXTS)
  const running = classify(TEXTS)
  await trainer.step(makeBatch())
  expect(await running).toEqual(before)
  expect(await classify(TEXTS)).not.toEqual(before)
})

test('the trained adapter is what getAdapter returns, and other adapters stay as they are', async () => {
  await adapters.loadAdapter(adapterFor(2), { name: 'other' })
  const batch = makeBatch()
  for (let i = 0; i < 3; i++) await trainer.step(batch)
  const answers = await classify(TEXTS)
  const trained = await adapters.getAdapter('mine')
  for (const module of [QUERY, OUTPUT])
    expect(trained.modules.get(module)?.coefficients).not.toEqual(
      adapterFor(1).modules.get(module)?.coefficients,
    )
  const other = await adapters.getAdapter('other')
  expect(other.modules.get(QUERY)?.coefficients).toEqual(adapterFor(2).modules.get(QUERY)?.coefficients)
  await adapters.loadAdapter(trained.toBytes(), { name: 'copy' })
  adapters.setAdapter('copy')
  expect(await classify(TEXTS)).toEqual(answers)
})

test('a new head is trained and served', async () => {
  await adapters.addAdapter('head', {
    targetModules: ['query'],
    modulesToSave: ['classifier'],
    nFrequency: 24,
    scaling: 30,
  })
  adapters.setAdapter('head')
  const head = await createTrainer(adapters, { loss, headLearningRate: 0.1 })
  const batch = makeBatch()
  const before = await adapters.getAdapter('head')
  for (let i = 0; i < 5; i++) await head.step(batch)
  expect((await head.step(batch)).loss).toBeLessThan(0.6)
  expect(await servedLoss()).toBeCloseTo((await head.evaluate([batch])).loss, 5)
  const tensors = (await adapters.getAdapter('head')).savedTensors
  for (const [name, { bytes }] of before.savedTensors) expect(tensors.get(name)?.bytes).not.toEqual(bytes)
})

test('during a step the adapter cannot be deleted, merged or trained a second time, nor the model detached', async () => {
  const batch = makeBatch()
  const running = trainer.step(batch)
  const state = { code: 'INVALID_STATE' }
  expect(() => adapters.deleteAdapter('mine')).toThrow(expect.objectContaining(state))
  await expect(adapters.mergeAdapter()).rejects.toMatchObject(state)
  await expect(adapters.detach()).rejects.toMatchObject(state)
  await expect(trainer.step(batch)).rejects.toMatchObject(state)
  expect((await running).step).toBe(1)
})

test.each([
  ['detach', () => adapters.detach()],
  ['mergeAndUnload', () => adapters.mergeAndUnload()],
  ['dispose', () => classify.dispose()],
])('%s releases the trainer', async (_, end) => {
  await end()
  const batch = makeBatch()
  for (const use of [() => trainer.step(batch), () => trainer.evaluate([batch])])
    await expect(use()).rejects.toMatchObject({
      code: 'INVALID_STATE',
      message: expect.stringMatching(/released/),
    })
})

test('a loss of an output that no session has is rejected', async () => {
  await expect(createTrainer(adapters, { loss: crossEntropy('scores') })).rejects.toMatchObject({
    code: 'INVALID_OPTION',
    message: expect.stringContaining('model (last_hidden_state, logits)'),
  })
})
