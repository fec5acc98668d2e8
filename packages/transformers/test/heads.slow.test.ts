/** Heads of adapters: in a model that was exported without one, and in place of the model's own; and the labels that follow the adapters of each call. */
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Adapter, FourierFTError, readSavedModule } from '@fourierft/core'
import { createModel, DataType } from '@fourierft/onnx'
import {
  AutoModel,
  AutoTokenizer,
  env,
  LogLevel,
  type PreTrainedModel,
  pipeline,
  RawImage,
  type TextClassificationPipeline,
} from '@huggingface/transformers'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { attach } from '../src/attach.js'

const FIXTURES = fileURLToPath(new URL('__fixtures__', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'fourierft-heads-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
beforeAll(() => {
  env.localModelPath = FIXTURES
  env.allowRemoteModels = false
  env.logLevel = LogLevel.NONE
})

const open: { dispose(): Promise<unknown> }[] = []
afterEach(async () => {
  for (const one of open.splice(0)) await one.dispose().catch(() => undefined)
})

const TEXT = 'the river runs down from the hills'
const OPTIONS = { targetModules: ['query', 'value'], nFrequency: 40, initWeights: false } as const
const MAILS = ['complaint', 'praise', 'question'] as const
const MOODS = ['calm', 'angry'] as const

async function classifier(name: string, dtype: 'fp32' | 'q8' | 'q4' | 'fp16' = 'fp32') {
  const classify = await pipeline('text-classification', name, { dtype })
  open.push(classify)
  return classify
}

async function codeOf(promise: Promise<unknown>): Promise<unknown> {
  const error = await promise.then(
    () => new Error('nothing was thrown'),
    (thrown) => thrown,
  )
  expect(error).toBeInstanceOf(FourierFTError)
  return error.code
}

/** Makes an adapter with a new head in a pipeline. */
async function withHead(
  classify: TextClassificationPipeline,
  name: string,
  names: readonly string[],
  seed = 1,
) {
  const adapters = await attach(classify)
  await adapters.addAdapter(name, OPTIONS)
  await adapters.giveHead(name, { names }, { seed, taskType: 'SEQ_CLS' })
  return adapters
}

/** The scores of RoBERTa's head for a last hidden state `[1, tokens, 32]`. */
function expectedScores(hidden: Float32Array, adapter: Adapter, labels: number): number[] {
  const layer = (module: string, shape: readonly [number, number], x: Float32Array) => {
    const { weight, bias } = readSavedModule(adapter, module, { shape, hasBias: true })
    return Float32Array.from({ length: shape[0] }, (_, o) => {
      let sum = (bias as Float32Array)[o] as number
      for (let i = 0; i < shape[1]; i++) sum += weight[o * shape[1] + i] * x[i]
      return sum
    })
  }
  const inner = layer('classifier.dense', [32, 32], hidden.subarray(0, 32)).map(Math.tanh)
  const powers = Array.from(layer('classifier.out_proj', [labels, 32], inner), Math.exp)
  const sum = powers.reduce((a, b) => a + b)
  return powers.map((power) => power / sum)
}

/** Writes a model in the form of ViT without a head: one linear layer of patches of 8 × 8 pixels. */
function writeImageEncoder(directory: string): void {
  mkdirSync(join(directory, 'onnx'), { recursive: true })
  for (const file of ['config.json', 'preprocessor_config.json'])
    cpSync(join(FIXTURES, 'vit', file), join(directory, file))
  const weight = Float32Array.from({ length: 192 * 32 }, (_, i) => 0.1 * Math.sin(i * i))
  const sizes = BigInt64Array.from([-1n, 4n, 192n])
  const graph = {
    name: 'main',
    inputs: [{ name: 'pixel_values', dataType: DataType.float, dims: ['batch', 3, 16, 16] }],
    outputs: [{ name: 'last_hidden_state', dataType: DataType.float, dims: ['batch', 4, 32] }],
    initializers: [
      { name: 'weight', dims: [192, 32], dataType: DataType.float, data: new Uint8Array(weight.buffer) },
      { name: 'sizes', dims: [3], dataType: DataType.int64, data: new Uint8Array(sizes.buffer) },
    ],
    nodes: [
      { name: '/Reshape', opType: 'Reshape', inputs: ['pixel_values', 'sizes'], outputs: ['patches'] },
      {
        name: '/encoder/layer.0/attention/attention/query/MatMul',
        opType: 'MatMul',
        inputs: ['patches', 'weight'],
        outputs: ['last_hidden_state'],
      },
    ],
  }
  writeFileSync(join(directory, 'onnx/model.onnx'), createModel(graph, { opset: 17 }).toBytes())
}

const labelIn = (results: unknown) => (results as { label: string }[])[0]?.label

const byName = (results: unknown) =>
  (results as { label: string; score: number }[]).toSorted((a, b) => a.label.localeCompare(b.label))

describe('a model that was exported without a head', () => {
  test.each(['fp32', 'q8', 'q4', 'fp16'] as const)('%s: gives the scores of the adapter', async (dtype) => {
    const classify = await classifier('roberta', dtype)
    const adapters = await withHead(classify, 'mails', MAILS)
    const results = byName(await classify(TEXT, { top_k: 3 }))
    expect(results.map(({ label }) => label)).toEqual(MAILS)
    const adapter = await adapters.getAdapter()
    expect(adapter.config).toMatchObject({ taskType: 'SEQ_CLS', modulesToSave: ['classifier', 'score'] })
    expect([...adapter.modules.keys()][0]).toBe('roberta.encoder.layer.0.attention.self.query')
    const model = await AutoModel.from_pretrained('roberta', { dtype })
    open.push(model)
    const encoder = await attach(model)
    const { config, modules } = adapter
    await encoder.loadAdapter(new Adapter({ config, modules }))
    const inputs = (await AutoTokenizer.from_pretrained('roberta'))(TEXT)
    const { last_hidden_state } = await model(inputs)
    const scores = expectedScores(last_hidden_state.data, adapter, 3)
    // Scores below 1, of sums of 32 products in float32.
    for (const [i, { score }] of results.entries()) expect(score).toBeCloseTo(scores[i] as number, 5)
  })

  test('keeps its labels and scores when it is saved, loaded, merged and unloaded', async () => {
    const classify = await classifier('roberta')
    const adapters = await withHead(classify, 'mails', MAILS)
    const expected = byName(await classify(TEXT, { top_k: 3 }))
    await adapters.savePretrained(folder, { name: 'mails' })
    await adapters.detach()
    const again = await attach(classify)
    await again.loadAdapter(folder)
    expect(byName(await classify(TEXT, { top_k: 3 }))).toEqual(expected)
    const near = expected.map(({ label, score }) => ({ label, score: expect.closeTo(score, 5) }))
    await again.mergeAdapter()
    expect(byName(await classify(TEXT, { top_k: 3 }))).toEqual(near)
    again.unmergeAdapter()
    expect(byName(await classify(TEXT, { top_k: 3 }))).toEqual(expected)
    await again.mergeAndUnload()
    expect(byName(await classify(TEXT, { top_k: 3 }))).toEqual(near)
    expect(classify.model.config).toMatchObject({ num_labels: 3, label2id: { praise: 1 } })
  })

  test('has the same labels and scores in another process', async () => {
    const names = ['Beschwerde — 苦情', '"praise"', '__proto__']
    const classify = await classifier('roberta')
    const adapters = await withHead(classify, 'mails', names)
    const directory = join(folder, 'other-process')
    await adapters.savePretrained(directory)
    const script = fileURLToPath(new URL('classify-process.js', import.meta.url))
    const output = execFileSync(process.execPath, [script, FIXTURES, 'roberta', directory, TEXT], {
      encoding: 'utf8',
    })
    const results = byName(JSON.parse(output.trim().split('\n').at(-1) ?? ''))
    const expected = byName(await classify(TEXT, { top_k: 3 }))
    expect(results.map(({ label }) => label)).toEqual(expected.map(({ label }) => label))
    expect(results.map(({ label }) => label).sort()).toEqual(names.toSorted())
    // The other process runs without the native kernel, so the sums of 40 coefficients are rounded differently.
    for (const [i, { score }] of results.entries()) expect(score).toBeCloseTo(expected[i]?.score as number, 5)
  })

  test('classifies tokens', async () => {
    const tag = await pipeline('token-classification', 'roberta', { dtype: 'fp32' })
    open.push(tag)
    const adapters = await attach(tag)
    await adapters.addAdapter('tags', OPTIONS)
    await adapters.giveHead('tags', { names: ['noun', 'verb', 'other'] }, { seed: 4 })
    const found = await tag(TEXT)
    expect(found.length).toBeGreaterThan(5)
    for (const { entity } of found as { entity: string }[])
      expect(['noun', 'verb', 'other']).toContain(entity)
    expect(
      (await adapters.getAdapter()).savedTensors.get('base_model.model.classifier.weight')?.shape,
    ).toEqual([3, 32])
  })

  test('classifies images', async () => {
    writeImageEncoder(join(folder, 'encoder'))
    env.localModelPath = folder
    const classify = await pipeline('image-classification', 'encoder', { dtype: 'fp32' })
    env.localModelPath = FIXTURES
    open.push(classify)
    const adapters = await attach(classify)
    await adapters.addAdapter('moods', {
      targetModules: ['query'],
      nFrequency: 40,
      scaling: 3000,
      initWeights: false,
    })
    await adapters.giveHead('moods', { names: MOODS }, { seed: 4 })
    expect([...(await adapters.getAdapter()).modules.keys()]).toEqual([
      'vit.encoder.layer.0.attention.attention.query',
    ])
    const pixels = Uint8ClampedArray.from({ length: 16 * 16 * 3 }, (_, i) => (i * i * 7) % 256)
    const image = new RawImage(pixels, 16, 16, 3)
    const results = byName(await classify(image))
    expect(results.map(({ label }) => label)).toEqual([...MOODS].sort())
    adapters.setScale('moods', 0)
    expect(byName(await classify(image))).not.toEqual(results)
  })

  test('gets a head without a pipeline, for the task that an option names', async () => {
    const model: PreTrainedModel = await AutoModel.from_pretrained('roberta', { dtype: 'fp32' })
    open.push(model)
    await expect(attach(model, { head: 'fill-mask' as 'text-classification' })).rejects.toThrow(
      /head: expected one of text-/,
    )
    await expect(attach(model, { head: 'image-classification' })).rejects.toThrow(
      /'roberta'; a head can be added to deit/,
    )
    const adapters = await attach(model, { head: 'text-classification' })
    await adapters.addAdapter('mails', OPTIONS)
    await adapters.giveHead('mails', { names: MAILS }, { seed: 1 })
    const { logits } = await model((await AutoTokenizer.from_pretrained('roberta'))(TEXT))
    expect(logits.dims).toEqual([1, 3])
  })
})

describe('a model with a head', () => {
  test.each(['fp32', 'q8', 'q4', 'fp16'] as const)(
    '%s: adapters bring heads with other labels, also in concurrent calls',
    async (dtype) => {
      const classify = await classifier('bert', dtype)
      const base = await classify(TEXT)
      const adapters = await withHead(classify, 'mails', MAILS)
      const mails = byName(await classify(TEXT, { top_k: 3 }))
      expect(mails.map(({ label }) => label)).toEqual(MAILS)
      await adapters.addAdapter('moods', OPTIONS)
      await adapters.giveHead('moods', { names: MOODS }, { seed: 2 })
      const first = classify(TEXT, { top_k: 3 })
      adapters.setAdapter('moods')
      const second = classify(TEXT, { top_k: 3 })
      adapters.setAdapter([])
      const third = classify(TEXT)
      expect(byName(await first)).toEqual(mails)
      expect(byName(await second).map(({ label }) => label)).toEqual([...MOODS].sort())
      expect(labelIn(await third)).toEqual(labelIn(base))
      const rows = await adapters.withAdapterPerRow(['moods', 'moods'], () => classify([TEXT, TEXT]))
      for (const { label } of rows as { label: string }[]) expect(MOODS).toContain(label)
    },
  )

  test('a new head replaces layers that the adapter has changed', async () => {
    const classify = await classifier('bert')
    const adapters = await attach(classify)
    await adapters.addAdapter('all', { targetModules: 'all-linear', nFrequency: 20 })
    const { modules } = await adapters.getAdapter()
    expect(modules.has('classifier')).toBe(true)
    await adapters.giveHead('all', { names: MOODS }, { seed: 1 })
    expect(byName(await classify(TEXT, { top_k: 2 })).map(({ label }) => label)).toEqual([...MOODS].sort())
    const { modules: left, savedTensors } = await adapters.getAdapter()
    expect([left.size, left.has('classifier'), savedTensors.size]).toEqual([modules.size - 1, false, 2])
  })

  test('a new head keeps the scale of its adapter, and can be exchanged again', async () => {
    const classify = await classifier('bert')
    const adapters = await attach(classify)
    await adapters.addAdapter('other', OPTIONS)
    await adapters.addAdapter('mine', OPTIONS)
    adapters.setScale('mine', 0.5)
    await adapters.giveHead('mine', { names: MAILS }, { seed: 1 })
    expect(adapters.activeAdapters).toEqual(['other'])
    expect(adapters.scaleOf('mine')).toBe(0.5)
    adapters.setAdapter('mine')
    await adapters.giveHead('mine', { names: MOODS, problemType: 'multi_label_classification' }, { seed: 1 })
    expect(adapters.activeAdapters).toEqual(['mine'])
    const scores = byName(await classify(TEXT, { top_k: 2 }))
    expect(scores.map(({ label }) => label)).toEqual([...MOODS].sort())
    // Sigmoids, which do not add up to 1.
    for (const { score } of scores) expect(Math.abs(score - 0.5)).toBeLessThan(0.1)
    await adapters.mergeAdapter()
    expect(await codeOf(adapters.giveHead('mine', { names: MAILS }, { seed: 1 }))).toBe('INVALID_STATE')
  })
})
