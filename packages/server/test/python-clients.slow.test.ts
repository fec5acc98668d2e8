/**
 * The official clients of Triton and KServe, in Python, against a running server. Set FOURIERFT_PYTHON_CLIENTS to a Python with the packages of
 * `python/requirements.txt`.
 */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { attach } from '@fourierft/transformers'
import { env, pipeline, Tensor } from '@huggingface/transformers'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Pipe } from '../src/engine.js'
import { createEngine } from '../src/model-engine.js'
import { listen, type RunningServer } from '../src/node.js'
import { folderResolver } from '../src/resolver/folder.js'

const FIXTURES = fileURLToPath(new URL('../../transformers/test/__fixtures__', import.meta.url))
const python = process.env.FOURIERFT_PYTHON_CLIENTS
const reason =
  python === undefined
    ? ' (skipped: FOURIERFT_PYTHON_CLIENTS is not set to a Python with tritonclient and kserve)'
    : ''

/** The same as in the scripts. */
const TEXTS = ['what a good film', 'the music was bright and the story true', 'bad']
const IDS = [
  [2, 128, 6, 81, 76, 5, 51, 3],
  [2, 96, 54, 64, 52, 51, 113, 3],
]
const MODELS = ['bert', 'bert:adapter-a', 'adapter-b']
const run = promisify(execFile)

interface Tensors {
  readonly label: readonly string[]
  readonly score: readonly number[]
  readonly scores: readonly number[][]
}

interface Expected extends Tensors {
  readonly logits: readonly number[][]
}

/** What the pipeline answers with this adapter alone, one text after another. */
async function answerAlone(adapter: string | null): Promise<Expected> {
  const pipe = (await pipeline('text-classification', 'bert', { dtype: 'fp32' })) as unknown as Pipe
  const adapters = await attach(pipe as unknown as Parameters<typeof attach>[0])
  if (adapter !== null) await adapters.loadAdapter(join(FIXTURES, 'bert', adapter))
  const dims = [IDS.length, 8]
  const constant = (value: bigint) => new Tensor('int64', new BigInt64Array(IDS.length * 8).fill(value), dims)
  const input_ids = new Tensor('int64', BigInt64Array.from(IDS.flat(), BigInt), dims)
  const { logits } = await pipe.model({
    input_ids,
    attention_mask: constant(1n),
    token_type_ids: constant(0n),
  })
  const answers: { label: string; score: number }[][] = []
  for (const text of TEXTS)
    answers.push((await pipe(text, { top_k: null })) as { label: string; score: number }[])
  const names: readonly string[] = Object.values(pipe.model.config.id2label)
  const scoreOf = (answer: { label: string; score: number }[], name: string) =>
    answer.find(({ label }) => label === name)?.score ?? Number.NaN
  const result = {
    logits: logits.tolist() as number[][],
    label: answers.map(([best]) => best?.label ?? ''),
    score: answers.map(([best]) => best?.score ?? Number.NaN),
    scores: answers.map((answer) => names.map((name) => scoreOf(answer, name))),
  }
  await pipe.model.dispose()
  return result
}

const close = (value: number) => expect.closeTo(value, 5)

// Without a time limit, because a busy machine takes minutes to import the packages.
describe.skipIf(python === undefined)(`clients in Python${reason}`, { timeout: 0 }, () => {
  let server: RunningServer
  const expected = new Map<string, Expected>()
  beforeAll(async () => {
    env.localModelPath = FIXTURES
    env.allowRemoteModels = false
    for (const model of MODELS) {
      expected.set(model, await answerAlone(model === 'bert' ? null : (model.split(':').at(-1) as string)))
    }
    const pipe = await pipeline('text-classification', 'bert', { dtype: 'fp32' })
    const resolver = folderResolver(join(FIXTURES, 'bert'))
    const engine = await createEngine(pipe as unknown as Pipe, { name: 'bert', resolver })
    server = await listen(engine, { port: 0, logger: false })
  })
  afterAll(() => server?.close())

  /** Runs a script and returns what it printed. */
  async function call(script: string) {
    const path = fileURLToPath(new URL(`python/${script}`, import.meta.url))
    const { stdout } = await run(python as string, [path, server.url, ...MODELS], { maxBuffer: 2 ** 26 })
    return JSON.parse(stdout)
  }

  /** Compares what both scripts report for a model. */
  function expectAnswers(model: string, found: Record<string, unknown>): void {
    const { logits, label, score, scores } = expected.get(model) as Expected
    expect(found.ready).toBe(true)
    const all = { label, score: score.map(close), scores: scores.map((row) => row.map(close)) }
    for (const kind of ['json', 'binary']) {
      expect(found[`${kind} tensors`]).toEqual({ logits: logits.map((row) => row.map(close)) })
      expect(found[`${kind} response`]).toMatchObject({ id: 'one', model_name: model })
      expect(found[`${kind} text`]).toEqual(all)
    }
    expect(found['all outputs']).toEqual(all)
    expect(found.concurrent).toEqual([...score, ...score, ...score, ...score].map(close))
  }

  test('the answers of adapters differ, so that none can pass for another', () => {
    const scores = MODELS.map((model) => JSON.stringify(expected.get(model)?.scores))
    expect(new Set(scores).size).toBe(MODELS.length)
  })

  test('tritonclient', async () => {
    const report = await call('triton_client.py')
    expect(report).toMatchObject({ live: true, ready: true, 'unknown ready': false })
    expect(report.server).toMatchObject({
      name: 'fourierft',
      extensions: ['binary_tensor_data'],
    })
    expect(report.index.map(({ name }: { name: string }) => name)).toEqual(['bert', 'adapter-a', 'adapter-b'])
    for (const model of MODELS) {
      const found = report.models[model]
      expectAnswers(model, found)
      expect(found.versioned).toBe(true)
      expect(found.metadata).toMatchObject({ name: model, versions: ['1'] })
      expect(found.gzip).toEqual(found['all outputs'])
      expect(found.deflate).toEqual(found['all outputs'])
      const { label } = expected.get(model) as Expected
      expect(found['top 2'].label.filter((_: string, i: number) => i % 2 === 0)).toEqual(label)
    }
    const scores = MODELS.flatMap((model) => Array(4).fill(expected.get(model)?.score.map(close)))
    expect(report.asyncio).toEqual(scores)
    expect(report.errors).toEqual({
      'unknown model': { status: '404', message: expect.stringContaining("'nobody'") },
      'unknown version': { status: '404', message: expect.stringContaining('version') },
      'wrong datatype': { status: '400', message: expect.stringContaining('expected BYTES, received INT64') },
      'missing input': { status: '400', message: expect.stringContaining('attention_mask, token_type_ids') },
      'unknown output': { status: '400', message: expect.stringContaining('label, score, scores') },
      'unknown parameter': { status: '400', message: expect.stringContaining('top_k') },
      'not UTF-8': { status: '400', message: expect.stringContaining('UTF-8') },
      'too long': { status: '400', message: expect.stringContaining('64 tokens') },
    })
  })

  test('kserve', async () => {
    const report = await call('kserve_client.py')
    expect(report).toMatchObject({ live: true, ready: true, 'unknown ready': false })
    for (const model of MODELS) expectAnswers(model, report.models[model])
    expect(report.errors).toEqual({
      'unknown model': { status: 404, message: expect.stringContaining("'nobody'") },
      'wrong datatype': { status: 400, message: expect.stringContaining('expected BYTES, received INT64') },
      'unknown output': { status: 400, message: expect.stringContaining('label, score, scores') },
    })
  })

  test('the manifests have the fields that KServe and Kubernetes know', async () => {
    const files = ['kserve.yaml', 'kubernetes.yaml']
    const paths = files.map((file) => fileURLToPath(new URL(`../deploy/${file}`, import.meta.url)))
    const script = fileURLToPath(new URL('python/check_manifests.py', import.meta.url))
    const { stdout } = await run(python as string, [script, ...paths])
    const kinds = JSON.parse(stdout).map(({ kind }: { kind: string }) => kind)
    expect(kinds).toEqual([
      'ClusterServingRuntime',
      'InferenceService',
      'PersistentVolumeClaim',
      'Deployment',
      'Service',
      'HorizontalPodAutoscaler',
    ])
  })
})
