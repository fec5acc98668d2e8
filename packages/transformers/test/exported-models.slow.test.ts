/**
 * Real exports in the layout of transformers.js, in every dtype, with adapters that PEFT saved. In float32, outputs are compared with those of
 * PyTorch and PEFT for the same weights (`scripts/export-fixtures.py`); in other dtypes, with those of the same file with a constant ΔW.
 */
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createAdapter, createConfig, loadAdapter } from '@fourierft/core'
import {
  AutoModel,
  AutoModelForCausalLM,
  AutoModelForImageClassification,
  AutoModelForSeq2SeqLM,
  AutoModelForSequenceClassification,
  env,
  LogLevel,
  type PreTrainedModel,
  Tensor,
} from '@huggingface/transformers'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { attach } from '../src/attach.js'
import { withDenseBranches } from './dense-branches.js'

const FIXTURES = fileURLToPath(new URL('__fixtures__', import.meta.url))
/** The files of a model, and the prefix of the modules in each file. */
const FILES = { model: '' }
const T5_FILES = { encoder_model: 'encoder.', decoder_model_merged: 'decoder.' }
const CLASSES = {
  bert: AutoModelForSequenceClassification,
  roberta: AutoModel,
  gpt2: AutoModelForCausalLM,
  llama: AutoModelForCausalLM,
  vit: AutoModelForImageClassification,
  t5: AutoModelForSeq2SeqLM,
  bart: AutoModelForSeq2SeqLM,
}
type Name = keyof typeof CLASSES
const NAMES = Object.keys(CLASSES) as Name[]
const GENERATING = ['gpt2', 'llama', 't5', 'bart'] as const
/** Only the names of BART's modules are tested, which are the same in each precision. */
const QUANTISED = NAMES.filter((name) => name !== 'bart')
const SUFFIXES = { fp16: '_fp16', q8: '_quantized', q4: '_q4', q4f16: '_q4f16' } as const

interface Outputs {
  /** Logits of the last token, the image or the text; T5 and BART: of all tokens. */
  readonly logits?: number[] | number[][]
  readonly lastHiddenState?: number[][]
  readonly tokens?: number[]
}
interface Case {
  readonly inputIds?: number[]
  readonly pixelValues?: number[]
  readonly decoderInputIds?: number[]
  readonly base: Outputs
  readonly 'adapter-a': Outputs
  readonly 'adapter-b': Outputs
}
const ADAPTERS = ['adapter-a', 'adapter-b'] as const

const casesOf = (name: string): Case[] =>
  JSON.parse(readFileSync(join(FIXTURES, name, 'vectors.json'), 'utf8')).cases

beforeAll(() => {
  env.localModelPath = FIXTURES
  env.allowRemoteModels = false
  env.logLevel = LogLevel.ERROR
})

const open: PreTrainedModel[] = []
afterEach(async () => {
  for (const model of open.splice(0)) await model.dispose()
})

async function load(
  name: Name,
  dtype: 'fp32' | keyof typeof SUFFIXES,
  path: string = name,
): Promise<PreTrainedModel> {
  const model = await CLASSES[name].from_pretrained(path, { dtype })
  open.push(model)
  return model
}

const ids = (values: number[]) => new Tensor('int64', BigInt64Array.from(values, BigInt), [1, values.length])

function inputsOf({ inputIds, pixelValues, decoderInputIds }: Case): Record<string, Tensor> {
  if (pixelValues)
    return { pixel_values: new Tensor('float32', Float32Array.from(pixelValues), [1, 3, 16, 16]) }
  const all = inputIds ?? []
  if (decoderInputIds)
    return {
      input_ids: ids(all),
      attention_mask: ids(all.map(() => 1)),
      decoder_input_ids: ids(decoderInputIds),
    }
  return { input_ids: ids(all), attention_mask: ids(all.map(() => 1)), token_type_ids: ids(all.map(() => 0)) }
}

/** Returns the last logits (T5 and BART: all logits), or the whole last hidden state, in float32. */
async function outputOf(model: PreTrainedModel, testCase: Case): Promise<Float32Array> {
  const { logits, last_hidden_state } = await model(inputsOf(testCase))
  const { data, dims } = (logits ?? last_hidden_state).to('float32') as Tensor
  return (data as Float32Array).slice(logits && !testCase.decoderInputIds ? -(dims.at(-1) as number) : 0)
}

/** `max |a − b|` over `max |b|`. */
function difference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length)
  const largest = Math.max(...Array.from(b, Math.abs))
  return Math.max(...Array.from(b, (value, i) => Math.abs(value - a[i]))) / largest
}

/** Twelve consecutive layers, each a sum of at most 64 products and about 96 coefficients: 2⁻²⁴ for each addition. */
const FLOAT32 = 12 * 160 * 2 ** -24

describe.each(NAMES)('%s', (name) => {
  test.each([true, false])('float32 outputs agree with PyTorch and PEFT; native: %s', async (native) => {
    const model = await load(name, 'fp32')
    const adapters = await attach(model, { native })
    for (const adapter of ADAPTERS)
      await adapters.loadAdapter(join(FIXTURES, name, adapter), { name: adapter })
    for (const testCase of casesOf(name)) {
      for (const which of ['base', ...ADAPTERS] as const) {
        adapters.setAdapter(which === 'base' ? [] : which)
        const { logits, lastHiddenState } = testCase[which]
        const expected = (logits ?? lastHiddenState ?? []).flat()
        expect(difference(await outputOf(model, testCase), expected)).toBeLessThan(FLOAT32)
      }
    }
  })
})

describe.each(QUANTISED)('%s', (name) => {
  /**
   * The limits add to the rounding of float32: float16 rounds each number of a layer to 2⁻¹¹, at different points of the two computations. A number
   * between two of q8's 256 steps can be rounded up or down; a step is 2⁻⁸ of the largest number, and a layer adds many numbers.
   */
  test.each([
    ['fp16', 12 * 2 ** -11],
    ['q8', 2 ** -8],
    ['q4', FLOAT32],
    ['q4f16', 12 * 2 ** -11],
  ] as const)('%s: the outputs are those of the quantised base with exact branches', async (dtype, limit) => {
    const folder = mkdtempSync(join(tmpdir(), 'fourierft-'))
    cpSync(join(FIXTURES, name), folder, { recursive: true })
    const adapter = await loadAdapter(join(FIXTURES, name, 'adapter-b'))
    for (const [stem, part] of Object.entries(name === 't5' ? T5_FILES : FILES)) {
      const file = `onnx/${stem}${SUFFIXES[dtype]}.onnx`
      const bytes = new Uint8Array(readFileSync(join(FIXTURES, name, file)))
      writeFileSync(join(folder, file), withDenseBranches(bytes, adapter, dtype.endsWith('16'), part))
    }
    const [model, dense] = [await load(name, dtype), await load(name, dtype, folder)]
    rmSync(folder, { recursive: true })
    const adapters = await attach(model)
    for (const testCase of casesOf(name)) {
      const base = await outputOf(model, testCase)
      if (adapters.listAdapters().length === 0) await adapters.loadAdapter(adapter)
      adapters.enableAdapters()
      const adapted = await outputOf(model, testCase)
      expect(difference(adapted, await outputOf(dense, testCase))).toBeLessThan(limit)
      expect(difference(adapted, base)).toBeGreaterThan(10 * limit)
      adapters.disableAdapters()
    }
  })
})

describe.each(GENERATING)('%s', (name) => {
  test.each([true, false])(
    'generates the same 64 (T5, BART: 16) greedy tokens as PyTorch and PEFT; native: %s',
    async (native) => {
      const model = await load(name, 'fp32')
      const adapters = await attach(model, { native })
      for (const adapter of ADAPTERS)
        await adapters.loadAdapter(join(FIXTURES, name, adapter), { name: adapter })
      for (const testCase of casesOf(name)) {
        const isDecoder = testCase.decoderInputIds === undefined
        const generate = async () => {
          const { input_ids, attention_mask } = inputsOf(testCase)
          const options = {
            input_ids,
            attention_mask,
            max_new_tokens: isDecoder ? 64 : 16,
            do_sample: false,
          }
          // The library's type lacks `input_ids`.
          const { data } = (await model.generate(options)) as Tensor
          return Array.from(data as BigInt64Array, Number).slice(isDecoder ? testCase.inputIds?.length : 1)
        }
        // The calls run concurrently, and each keeps the adapter it started with.
        const answers = (['base', ...ADAPTERS] as const).map((which) => {
          adapters.setAdapter(which === 'base' ? [] : which)
          return [which, generate()] as const
        })
        for (const [which, tokens] of answers) expect(await tokens).toEqual(testCase[which].tokens)
      }
    },
  )
})

/** Returns greedy tokens for texts of equal length, up to the end token. */
async function generateAll(model: PreTrainedModel, texts: readonly number[][]): Promise<number[][]> {
  const length = texts[0]?.length ?? 0
  const tensor = (values: number[]) =>
    new Tensor('int64', BigInt64Array.from(values, BigInt), [texts.length, length])
  const options = {
    input_ids: tensor(texts.flat()),
    attention_mask: tensor(texts.flatMap((text) => text.map(() => 1))),
    max_new_tokens: 24,
    do_sample: false,
  }
  const generated = (await model.generate(options)) as Tensor
  const end = (model.config as unknown as { eos_token_id: number }).eos_token_id
  return generated.tolist().map((row: bigint[]) => {
    const tokens = row.map(Number)
    const last = tokens.indexOf(end)
    return last < 0 ? tokens : tokens.slice(0, last)
  })
}

test('bart: finds modules of the encoder, which have other names in the encoder’s file', async () => {
  const model = await load('bart', 'fp32')
  const [testCase] = casesOf('bart') as [Case]
  const adapters = await attach(model)
  const encoder = 'model.encoder.layers.0.fc1'
  const config = createConfig({ nFrequency: 8, scaling: 100, initWeights: false })
  const base = await outputOf(model, testCase)
  await adapters.loadAdapter(createAdapter(config, { [encoder]: [32, 16] }))
  const adapted = await outputOf(model, testCase)
  expect(difference(adapted, base)).toBeGreaterThan(1000 * FLOAT32)
  await adapters.mergeAdapter()
  expect(difference(await outputOf(model, testCase), adapted)).toBeLessThan(FLOAT32)
  const wrong = createAdapter(config, { [encoder]: [16, 16] })
  await expect(adapters.loadAdapter(wrong, { name: 'wrong' })).rejects.toMatchObject({
    code: 'SHAPE_MISMATCH',
  })
})

test.each(['llama', 't5'] as const)(
  '%s: generate uses one adapter for each row in all of its steps',
  async (name) => {
    const model = await load(name, 'fp32')
    const adapters = await attach(model)
    for (const adapter of ADAPTERS)
      await adapters.loadAdapter(join(FIXTURES, name, adapter), { name: adapter })
    const [{ inputIds = [] }] = casesOf(name) as [Case]
    const outputsOfSingleTexts = []
    for (const which of ['adapter-a', null, 'adapter-b']) {
      adapters.setAdapter(which ?? [])
      outputsOfSingleTexts.push(...(await generateAll(model, [inputIds])))
    }
    expect(new Set(outputsOfSingleTexts.map(String)).size).toBe(3)
    const rows = ['adapter-a', null, 'adapter-b', null]
    const texts = rows.map(() => inputIds)
    const mixed = adapters.withAdapterPerRow(rows, () => generateAll(model, texts))
    // A running call keeps its adapters, even if they are disabled or deleted.
    adapters.disableAdapters()
    for (const adapter of ADAPTERS) adapters.deleteAdapter(adapter)
    expect(await mixed).toEqual([...outputsOfSingleTexts, outputsOfSingleTexts[1]])
  },
)

test('t5: an adapter that one session rejects is not loaded in any session', async () => {
  const model = await load('t5', 'fp32')
  const [testCase] = casesOf('t5') as [Case]
  const base = await outputOf(model, testCase)
  const adapters = await attach(model)
  const config = createConfig({ nFrequency: 4, initWeights: false })
  const [right, wrong] = [
    'encoder.block.0.layer.0.SelfAttention.q',
    'decoder.block.0.layer.0.SelfAttention.q',
  ]
  const broken = createAdapter(config, { [right]: [32, 32], [wrong]: [32, 16] })
  await expect(adapters.loadAdapter(broken)).rejects.toMatchObject({ code: 'SHAPE_MISMATCH' })
  const missing = createAdapter(config, { 'encoder.block.9.layer.0.SelfAttention.q': [32, 32] })
  await expect(adapters.loadAdapter(missing)).rejects.toMatchObject({
    code: 'MODULE_NOT_FOUND',
    message: expect.stringContaining('block.0.layer.0.SelfAttention.q'),
  })
  expect(adapters.listAdapters()).toEqual([])
  expect(await outputOf(model, testCase)).toEqual(base)
  await adapters.loadAdapter(join(FIXTURES, 't5/adapter-a'))
  expect(
    difference(await outputOf(model, testCase), (testCase['adapter-a'].logits ?? []).flat()),
  ).toBeLessThan(FLOAT32)
  await adapters.mergeAdapter()
  expect(
    difference(await outputOf(model, testCase), (testCase['adapter-a'].logits ?? []).flat()),
  ).toBeLessThan(FLOAT32)
  adapters.unmergeAdapter()
  await adapters.detach()
  expect(await outputOf(model, testCase)).toEqual(base)
  const reattached = await attach(model)
  await reattached.loadAdapter(join(FIXTURES, 't5/adapter-a'))
  await reattached.mergeAndUnload()
  expect(
    difference(await outputOf(model, testCase), (testCase['adapter-a'].logits ?? []).flat()),
  ).toBeLessThan(FLOAT32)
})

test('every fixture is tested', () => {
  const names = readdirSync(FIXTURES).filter((name) => existsSync(join(FIXTURES, name, 'vectors.json')))
  expect(names.sort()).toEqual([...NAMES].sort())
})
