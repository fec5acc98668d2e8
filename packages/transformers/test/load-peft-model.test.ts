/** `loadPeftModel`: the base model, the task and the head of an adapter, and the progress of the downloads. */
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

test('loads the base model for the task, as the adapter specifies', async () => {
  const { pipe, adapters } = await loadPeftModel<'text-classification'>(join(FIXTURES, 'bert/adapter-a'), {
    dtype: 'fp32',
  })
  const [testCase] = JSON.parse(readFileSync(join(FIXTURES, 'bert/vectors.json'), 'utf8')).cases
  const powers = (testCase['adapter-a'].logits as number[]).map(Math.exp)
  const best = Math.max(...powers)
  expect(await pipe(testCase.text)).toEqual([
    {
      label: ['bad', 'neutral', 'good'][powers.indexOf(best)],
      score: expect.closeTo(best / powers.reduce((a, b) => a + b), 5),
    },
  ])
  expect(adapters.activeAdapters).toEqual(['default'])
  await pipe.dispose()
})

test('options override the base model and the task; progress is reported for adapter and model', async () => {
  const reports: ProgressInfo[] = []
  const { pipe, adapters } = await loadPeftModel(`${url}/vit/adapter-b`, {
    task: 'image-classification',
    base: 'vit',
    dtype: 'q8',
    adapter: { name: 'b' },
    progress_callback: (progress) => reports.push(progress),
  })
  expect(adapters.listAdapters()).toEqual(['b'])
  const statusesOf = (file: string) =>
    reports.flatMap((report) => ('file' in report && report.file === file ? [report.status] : []))
  for (const file of ['adapter_config.json', 'adapter_model.safetensors'])
    expect([...new Set(statusesOf(file))]).toEqual(['initiate', 'download', 'progress', 'done'])
  expect(statusesOf('onnx/model_quantized.onnx')).toContain('done')
  expect(reports.at(-1)).toMatchObject({ status: 'ready' })
  await pipe.dispose()
})

test('requires the options base and task if the adapter does not specify them', async () => {
  const adapter = createAdapter(createConfig({ nFrequency: 4, taskType: 'SEQ_CLS' }), { dense: [8, 8] })
  expect(await codeOf(loadPeftModel(adapter))).toEqual(['INVALID_OPTION', 'base'])
  expect(await codeOf(loadPeftModel(adapter, { base: 'no-such-model' }))).toEqual(['FILE_NOT_FOUND', 'base'])
  const biased = createAdapter(createConfig({ nFrequency: 4, bias: 'all' }), { dense: [8, 8] })
  expect(await codeOf(loadPeftModel(biased, { base: 'no-such-model' }))).toEqual(['UNSUPPORTED', 'bias'])
  const withoutTask = createAdapter(createConfig({ nFrequency: 4 }), { dense: [8, 8] })
  expect(await codeOf(loadPeftModel(withoutTask, { base: 'bert' }))).toEqual(['INVALID_OPTION', 'task'])
  expect(await codeOf(loadPeftModel(adapter, { base: 'bert', dtype: 'fp32' }))).toEqual([
    'MODULE_NOT_FOUND',
    undefined,
  ])
})

test('rejects a task type that is a member of Object.prototype', async () => {
  const text = readFileSync(join(FIXTURES, 'bert/adapter-a/adapter_config.json'), 'utf8')
  const model = new Uint8Array(readFileSync(join(FIXTURES, 'bert/adapter-a/adapter_model.safetensors')))
  for (const name of ['constructor', 'toString', '__proto__']) {
    const config = new TextEncoder().encode(text.replace(/"task_type": [^,\n]+/, `"task_type": "${name}"`))
    expect(await codeOf(loadPeftModel({ config, model }))).toEqual(['INVALID_OPTION', 'task'])
  }
})
