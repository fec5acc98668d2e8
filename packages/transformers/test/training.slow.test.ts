/**
 * Training on the feeds that transformers.js makes: the loss is that of the model's own outputs, and gradients equal central differences. The models are
 * real exports: encoders, a vision model, decoders with a cache, and encoders with a merged decoder.
 */
import { fileURLToPath } from 'node:url'
import { createTrainer, crossEntropy, meanSquaredError, type TrainingBatch } from '@fourierft/onnxruntime'
import {
  AutoModelForCausalLM,
  AutoModelForImageClassification,
  AutoModelForSeq2SeqLM,
  AutoModelForSequenceClassification,
  env,
  LogLevel,
  type PreTrainedModel,
  Tensor as TransformersTensor,
} from '@huggingface/transformers'
import { Tensor } from 'onnxruntime-common'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { gradientErrors } from '../../onnxruntime/src/trainer/__fixtures__/check-whole-gradient.js'
import { attach } from '../src/attach.js'
import type { ModelAdapters } from '../src/model-adapters.js'

beforeAll(() => {
  env.localModelPath = fileURLToPath(new URL('__fixtures__', import.meta.url))
  env.allowRemoteModels = false
  env.logLevel = LogLevel.ERROR
})

const open: PreTrainedModel[] = []
afterEach(async () => {
  for (const model of open.splice(0)) await model.dispose()
})

const text = [
  [2, 9, 14, 7, 31, 3],
  [2, 17, 5, 3, 0, 0],
]
const mask = text.map((row) => row.map((id) => (id === 0 ? 0 : 1)))
const target = [
  [0, 7, 3, 12],
  [0, 12, 4, 5],
]
const ids = (rows: readonly (readonly number[])[]) =>
  new TransformersTensor('int64', BigInt64Array.from(rows.flat(), BigInt), [
    rows.length,
    rows[0]?.length ?? 0,
  ])
const zeros = text.map((row) => row.map(() => 0))
/** The second row ends earlier, as padding does. */
const tokenLabels = (rows: readonly (readonly number[])[]) => [
  rows[0]?.map((id) => (id * 7 + 3) % 40) ?? [],
  rows[1]?.map((id, i) => (i < 2 ? (id * 5 + 1) % 40 : -100)) ?? [],
]
const pixels = new TransformersTensor(
  'float32',
  Float32Array.from({ length: 2 * 3 * 16 * 16 }, (_, i) => Math.sin(0.37 * i)),
  [2, 3, 16, 16],
)

interface Case {
  readonly load: (name: string, options: { dtype: 'fp32' | 'q4' }) => Promise<PreTrainedModel>
  readonly inputs: Readonly<Record<string, TransformersTensor>>
  readonly labels: readonly number[] | readonly (readonly number[])[]
  readonly targetModules: readonly string[]
}

const encoderInputs = {
  input_ids: ids(text),
  attention_mask: ids(mask),
  token_type_ids: ids(zeros),
}
const causal = { input_ids: ids(text), attention_mask: ids(mask) }
const translation = { ...causal, decoder_input_ids: ids(target) }

const CASES: Readonly<Record<string, Case>> = {
  bert: {
    load: (...args) => AutoModelForSequenceClassification.from_pretrained(...args),
    inputs: encoderInputs,
    labels: [0, 1],
    targetModules: ['query', 'value', 'dense'],
  },
  vit: {
    load: (...args) => AutoModelForImageClassification.from_pretrained(...args),
    inputs: { pixel_values: pixels },
    labels: [0, 1],
    targetModules: ['query', 'value'],
  },
  gpt2: {
    load: (...args) => AutoModelForCausalLM.from_pretrained(...args),
    inputs: causal,
    labels: tokenLabels(text),
    targetModules: ['c_attn', 'c_fc'],
  },
  llama: {
    load: (...args) => AutoModelForCausalLM.from_pretrained(...args),
    inputs: causal,
    labels: tokenLabels(text),
    targetModules: ['q_proj', 'v_proj', 'down_proj'],
  },
  t5: {
    load: (...args) => AutoModelForSeq2SeqLM.from_pretrained(...args),
    inputs: translation,
    labels: tokenLabels(target),
    targetModules: ['q', 'v', 'wi'],
  },
  bart: {
    load: (...args) => AutoModelForSeq2SeqLM.from_pretrained(...args),
    inputs: translation,
    labels: tokenLabels(target),
    targetModules: ['q_proj', 'v_proj', 'fc1'],
  },
}

/** An empty cache, which transformers.js feeds to a decoder in its first step. */
function emptyCache(model: PreTrainedModel): Record<string, Tensor> {
  const decoder = model.sessions.decoder_model_merged ?? model.sessions.model
  const feeds: Record<string, Tensor> = {}
  for (const input of decoder.inputMetadata) {
    if (input.name === 'use_cache_branch') feeds[input.name] = new Tensor('bool', [false], [1])
    if (!input.name.startsWith('past_key_values') || !input.isTensor) continue
    const [, heads, , width] = input.shape as number[]
    feeds[input.name] = new Tensor('float32', new Float32Array(0), [2, heads ?? 0, 0, width ?? 0])
  }
  return feeds
}

/** The feeds of all inputs that the training graph was made from, as transformers.js makes them, and the labels. */
function batchOf(adapters: ModelAdapters, { inputs, labels }: Case): TrainingBatch {
  const { input_ids } = inputs
  const position_ids = input_ids && ids(text.map((row) => row.map((_, i) => i)))
  const all = { ...inputs, ...(position_ids && { position_ids }) }
  const tensors = Object.entries(all).map(([name, tensor]) => [name, tensor.ort_tensor] as const)
  const known = adapters.trainingInputs('logits').map(({ name }) => name)
  const feeds = [...tensors, ...Object.entries(emptyCache(adapters.model))].filter(([name]) =>
    known.includes(name),
  )
  const flat = labels.flat()
  const dims = labels.length === flat.length ? [flat.length] : [2, flat.length / 2]
  return {
    feeds: Object.fromEntries(feeds),
    labels: new Tensor('int64', BigInt64Array.from(flat, BigInt), dims),
  }
}

/** The mean cross-entropy of the model's outputs. */
async function servedLoss(model: PreTrainedModel, { inputs, labels }: Case): Promise<number> {
  const { logits } = (await model(inputs)) as { logits: TransformersTensor }
  const [values, classes] = [logits.data as Float32Array, logits.dims.at(-1) ?? 0]
  const counted = labels.flat().flatMap((label, row) => {
    if (label < 0) return []
    const scores = Array.from(values.subarray(row * classes, (row + 1) * classes))
    const largest = Math.max(...scores)
    const sum = scores.reduce((total, score) => total + Math.exp(score - largest), 0)
    return [Math.log(sum) + largest - (scores[label] ?? 0)]
  })
  return counted.reduce((total, loss) => total + loss, 0) / counted.length
}

describe.each(Object.entries(CASES))('%s', (name, testCase) => {
  async function start(dtype: 'fp32' | 'q4', initWeights: boolean) {
    const model = await testCase.load(name, { dtype })
    open.push(model)
    const adapters = await attach(model)
    const { targetModules } = testCase
    await adapters.addAdapter('mine', { targetModules, nFrequency: 12, scaling: 10, initWeights })
    const trainer = await createTrainer(adapters, { loss: crossEntropy('logits') })
    return { model, adapters, trainer, batch: batchOf(adapters, testCase) }
  }

  test('gradients equal central differences', async () => {
    const { model, adapters, trainer, batch } = await start('fp32', false)
    const feeds = Object.keys(batch.feeds).sort()
    expect(feeds).toEqual(
      adapters
        .trainingInputs('logits')
        .map((input) => input.name)
        .sort(),
    )
    expect((await trainer.evaluate([batch])).loss).toBeCloseTo(await servedLoss(model, testCase), 5)
    const parts = 'decoder_input_ids' in testCase.inputs ? [/encoder\./, /decoder\./] : [/./]
    for (const part of parts) {
      const inputs: string[] = []
      const only = (input: string) => {
        const isChanged = part.test(input)
        if (isChanged) inputs.push(input)
        return isChanged
      }
      // The loss, below 8, has an error of about 2⁻²⁰ and changes by 0.003: larger changes pass the kinks of T5’s ReLU.
      for (const error of await gradientErrors(trainer, batch, { change: 0.003, only }))
        expect(error, String(part)).toBeLessThan(1e-3)
      expect(inputs).not.toEqual([])
    }
  })

  test.each(['fp32', ...(name === 'bart' ? [] : (['q4'] as const))] as const)(
    '%s: steps lower the loss, and the model answers with the adapter as it is after each',
    async (dtype) => {
      const { model, adapters, trainer, batch } = await start(dtype, true)
      const losses: number[] = []
      for (let i = 0; i < 6; i++) {
        const served = await servedLoss(model, testCase)
        losses.push((await trainer.step(batch)).loss)
        expect(losses.at(-1)).toBeCloseTo(served, 4)
      }
      expect(losses.at(-1)).toBeLessThan(losses[0] ?? 0)
      const trained = await adapters.getAdapter('mine')
      for (const { coefficients } of trained.modules.values())
        expect(coefficients.some((value) => value !== 0)).toBe(true)
    },
  )
})

test('an adapter with layers in a session that the loss does not depend on is rejected', async () => {
  const { load, targetModules } = CASES.t5 as Case
  const model = await load('t5', { dtype: 'fp32' })
  open.push(model)
  const adapters = await attach(model)
  await adapters.addAdapter('mine', { targetModules, nFrequency: 12 })
  const loss = meanSquaredError('last_hidden_state')
  await expect(createTrainer(adapters, { loss })).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    message: expect.stringMatching(/layers in decoder_model_merged, but model computes/),
  })
  // The encoder's output is enough for an adapter of the encoder.
  await adapters.addAdapter('encoder', { targetModules: 'encoder.*SelfAttention.q', nFrequency: 12 })
  const trainer = await createTrainer(adapters, { adapter: 'encoder', loss })
  const feeds = { input_ids: ids(text).ort_tensor, attention_mask: ids(mask).ort_tensor }
  const labels = new Tensor('float32', new Float32Array(2 * 6 * 32), [2, 6, 32])
  const first = await trainer.step({ feeds, labels })
  expect((await trainer.step({ feeds, labels })).loss).toBeLessThan(first.loss)
})
