/** From an adapter alone: its base model, its task, its head, and how far it is. */
import { readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createAdapter, createConfig, type FourierFTError } from '@fourierft/core'
import { env, LogLevel, type ProgressInfo } from '@huggingface/transformers'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { loadPeftModel } from '../src/load-peft-model.js'

const FIXTURES = fileURLToPath(new URL('__fixtures__', import.meta.url))

let server: Server
let url: string
beforeAll(async () => {
  env.localModelPath = FIXTURES
  env.allowRemoteModels = false
  env.logLevel = LogLevel.ERROR
  server = createServer(({ url: path = '' }, response) => response.end(readFileSync(join(FIXTURES, path))))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterAll(() => server.close())

const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'nothing was thrown',
    ({ code, details }: FourierFTError) => [code, details.option],
  )

test('the base model and the task are what the adapter says', async () => {
  const { pipe, adapters } = await loadPeftModel<'text-classification'>(join(FIXTURES, 'bert/adapter-a'), {
    dtype: 'fp32',
  })
  const [one] = JSON.parse(readFileSync(join(FIXTURES, 'bert/vectors.json'), 'utf8')).cases
  const powers = (one['adapter-a'].logits as number[]).map(Math.exp)
  const best = Math.max(...powers)
  expect(await pipe(one.text)).toEqual([
    {
      label: ['bad', 'neutral', 'good'][powers.indexOf(best)],
      score: expect.closeTo(best / powers.reduce((a, b) => a + b), 5),
    },
  ])
  expect(adapters.activeAdapters).toEqual(['default'])
  await pipe.dispose()
})

test('or what the options say; progress is told of both', async () => {
  const told: ProgressInfo[] = []
  const { pipe, adapters } = await loadPeftModel(`${url}/vit/adapter-b`, {
    task: 'image-classification',
    base: 'vit',
    dtype: 'q8',
    adapter: { name: 'b' },
    progress_callback: (progress) => told.push(progress),
  })
  expect(adapters.listAdapters()).toEqual(['b'])
  const of = (wanted: string) =>
    told.flatMap((each) => ('file' in each && each.file === wanted ? [each.status] : []))
  for (const file of ['adapter_config.json', 'adapter_model.safetensors'])
    expect([...new Set(of(file))]).toEqual(['initiate', 'download', 'progress', 'done'])
  expect(of('onnx/model_quantized.onnx')).toContain('done')
  expect(told.at(-1)).toMatchObject({ status: 'ready' })
  await pipe.dispose()
})

test('what cannot be known is asked for', async () => {
  const adapter = createAdapter(createConfig({ nFrequency: 4, taskType: 'SEQ_CLS' }), { dense: [8, 8] })
  expect(await codeOf(loadPeftModel(adapter))).toEqual(['INVALID_OPTION', 'base'])
  expect(await codeOf(loadPeftModel(adapter, { base: 'no-such-model' }))).toEqual(['FILE_NOT_FOUND', 'base'])
  const biased = createAdapter(createConfig({ nFrequency: 4, bias: 'all' }), { dense: [8, 8] })
  expect(await codeOf(loadPeftModel(biased, { base: 'no-such-model' }))).toEqual(['UNSUPPORTED', 'bias'])
  const untold = createAdapter(createConfig({ nFrequency: 4 }), { dense: [8, 8] })
  expect(await codeOf(loadPeftModel(untold, { base: 'bert' }))).toEqual(['INVALID_OPTION', 'task'])
  expect(await codeOf(loadPeftModel(adapter, { base: 'bert', dtype: 'fp32' }))).toEqual([
    'MODULE_NOT_FOUND',
    undefined,
  ])
})

test('a task type that every object of JavaScript has is none', async () => {
  const text = readFileSync(join(FIXTURES, 'bert/adapter-a/adapter_config.json'), 'utf8')
  const model = new Uint8Array(readFileSync(join(FIXTURES, 'bert/adapter-a/adapter_model.safetensors')))
  for (const name of ['constructor', 'toString', '__proto__']) {
    const config = new TextEncoder().encode(text.replace(/"task_type": [^,\n]+/, `"task_type": "${name}"`))
    expect(await codeOf(loadPeftModel({ config, model }))).toEqual(['INVALID_OPTION', 'task'])
  }
})
