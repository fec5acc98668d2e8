/** The life cycle of adapters in a model with two sessions (T5): ΔW in the encoder, replaced layers in the decoder. */
import { mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { testAdapters } from '@fourierft/conformance/vitest'
import { AutoModelForSeq2SeqLM, env, LogLevel, Tensor } from '@huggingface/transformers'
import type * as Ort from 'onnxruntime-common'
import { beforeAll, expect, test, vi } from 'vitest'
import { withTwoSteps } from '../src/__fixtures__/two-steps.js'
import { attach } from '../src/attach.js'

const FIXTURES = fileURLToPath(new URL('__fixtures__', import.meta.url))
beforeAll(() => {
  env.localModelPath = FIXTURES
  env.allowRemoteModels = false
  env.logLevel = LogLevel.ERROR
})

const ids = (row: readonly number[]) =>
  new Tensor('int64', BigInt64Array.from([...row, ...row], BigInt), [2, row.length])
const inputs = {
  input_ids: ids([5, 9, 14, 1]),
  attention_mask: ids([1, 1, 1, 1]),
  decoder_input_ids: ids([0, 7, 3]),
}
const T5 = async (name = 't5') =>
  withTwoSteps(await AutoModelForSeq2SeqLM.from_pretrained(name, { dtype: 'fp32' }))
const logitsOf = ({ logits }: Record<string, Tensor>) => logits?.data as Float32Array

/** Twelve consecutive layers, each a sum of at most 64 products and about 96 coefficients: 2⁻²⁴ for each addition. */
const FLOAT32 = 12 * 160 * 2 ** -24

testAdapters(
  () => ({
    layer: { module: 'encoder.block.0.layer.0.SelfAttention.q', shape: [32, 32] },
    head: { module: 'decoder.block.0.layer.1.EncDecAttention.o', shape: [32, 32], hasBias: false },
    tolerance: FLOAT32,
    async create() {
      const model = await T5()
      const adapters = await attach(model)
      return {
        adapters,
        call: async () => logitsOf(await model(inputs)),
        callDuring: async (action) => logitsOf(await model.twice(inputs, action)),
        async end() {
          await adapters.detach()
          await model.dispose()
        },
      }
    },
  }),
  { lacks: ['train', 'writeWeights'] },
)

test('if one session cannot be created, the others are restored', async () => {
  const require = createRequire(createRequire(import.meta.url).resolve('@huggingface/transformers'))
  const { InferenceSession }: typeof Ort = require('onnxruntime-node')
  const model = await T5()
  const adapters = await attach(model)
  await adapters.loadAdapter(join(FIXTURES, 't5/adapter-a'))
  const before = logitsOf(await model(inputs))
  const { create } = InferenceSession
  for (const method of ['detach', 'mergeAndUnload'] as const) {
    let created = 0
    vi.spyOn(InferenceSession, 'create').mockImplementation((...args: unknown[]) => {
      if (++created === 2) throw new Error('out of memory')
      return Reflect.apply(create, InferenceSession, args)
    })
    await expect(adapters[method]()).rejects.toThrow('out of memory')
    vi.restoreAllMocks()
    expect(adapters.activeAdapters).toEqual(['default'])
    expect(logitsOf(await model(inputs))).toEqual(before)
  }
  await adapters.mergeAndUnload()
  const merged = logitsOf(await model(inputs))
  const largest = Math.max(...Array.from(before, Math.abs))
  for (const [i, value] of merged.entries())
    expect(Math.abs(value - before[i])).toBeLessThan(FLOAT32 * largest)
  await model.dispose()
})

test('detach restores the other sessions if one was closed elsewhere', async () => {
  const model = await T5()
  const { sessions } = model
  const { model: encoder, decoder_model_merged: decoder } = sessions
  const adapters = await attach(model)
  await adapters.loadAdapter(join(FIXTURES, 't5/adapter-a'))
  await model.sessions.model.release()
  await adapters.detach()
  expect(model.sessions).toBe(sessions)
  expect(sessions.model).toBe(encoder)
  const { decoder_model_merged: restored } = sessions
  expect(restored).not.toBe(decoder)
  expect(restored).toBeInstanceOf(decoder.constructor)
  expect(restored.inputNames).toEqual(decoder.inputNames)
  await restored.release()
})

test.each([
  ['t5', ['encoder.block.0.layer.0.SelfAttention.q', 'decoder.block.0.layer.0.SelfAttention.q']],
  ['bart', ['model.encoder.layers.0.self_attn.q_proj', 'model.decoder.layers.0.self_attn.q_proj']],
])(
  '%s: a new adapter has the module names of the whole model, and its file can be loaded',
  async (name, expected) => {
    const folder = mkdtempSync(join(tmpdir(), 'fourierft-'))
    const model = await T5(name)
    const adapters = await attach(model)
    const targetModules = name === 't5' ? ['q'] : ['q_proj']
    await adapters.addAdapter('new', { targetModules, nFrequency: 8, scaling: 100, initWeights: false })
    const names = [...(await adapters.getAdapter()).modules.keys()]
    for (const module of expected) expect(names).toContain(module)
    const output = logitsOf(await model(inputs))
    await adapters.savePretrained(folder)
    await adapters.loadAdapter(folder, { name: 'again' })
    adapters.setAdapter('again')
    expect(logitsOf(await model(inputs))).toEqual(output)
    rmSync(folder, { recursive: true })
    await model.dispose()
  },
)
