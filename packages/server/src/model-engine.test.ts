/** Answers of the engine, with many calls at the same time, compared with the pipeline alone, for real exports of seven architectures. */
import { setMaxListeners } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Adapter, loadAdapter, type Tensor as SavedTensor, savePretrained } from '@fourierft/core'
import { attach } from '@fourierft/transformers'
import { env, LogLevel, pipeline, RawImage, type Tensor } from '@huggingface/transformers'
import { afterAll, describe, expect, test } from 'vitest'
import type { Joining, Pipe } from './engine.js'
import { createEngine } from './model-engine.js'
import { folderResolver } from './resolver/folder.js'

const FIXTURES = fileURLToPath(new URL('../../transformers/test/__fixtures__', import.meta.url))
env.localModelPath = FIXTURES
env.allowRemoteModels = false
env.logLevel = LogLevel.ERROR

const signal = new AbortController().signal
setMaxListeners(0, signal)
const root = mkdtempSync(join(tmpdir(), 'fourierft-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))

/** Writes adapters of two kinds: variants of the fixtures' adapters with other coefficients. */
async function writeAdapters(model: string): Promise<{ folder: string; adapters: Map<string, Adapter> }> {
  const folder = join(root, model)
  const adapters = new Map<string, Adapter>()
  for (const kind of ['adapter-a', 'adapter-b'])
    for (let i = 0; i < 4; i++) {
      const original = await loadAdapter(join(FIXTURES, model, kind))
      const scaled = Array.from(original.modules, ([name, { coefficients }]) => [
        name,
        Float32Array.from(coefficients, (c, l) => c * (1 + 0.3 * i * Math.sin(l))),
      ])
      const changed = original.withCoefficients(Object.fromEntries(scaled))
      const heads = Array.from(
        original.savedTensors,
        ([name, tensor]) => [name, scaledTensor(tensor, 1 + i)] as const,
      )
      const adapter = new Adapter({ ...changed, savedTensors: new Map(heads) })
      adapters.set(`${kind}-${i}`, adapter)
      await savePretrained(adapter, join(folder, `${kind}-${i}`))
    }
  return { folder, adapters }
}

/** Each adapter gets a head of its own. */
function scaledTensor({ dtype, shape, bytes }: SavedTensor, factor: number): SavedTensor {
  expect(dtype).toBe('F32')
  const numbers = new Float32Array(bytes.slice().buffer).map((x) => factor * x)
  return { dtype, shape, bytes: new Uint8Array(numbers.buffer) }
}

const TEXTS = [
  'the cat',
  'a small cat sat on the mat',
  'one',
  'the old dog and the small cat',
  'on the mat the cat sat',
]
const GREEDY = { max_new_tokens: 12, do_sample: false }

interface Case {
  readonly model: string
  readonly task: string
  readonly joining: Joining
  readonly inputs: readonly unknown[]
  readonly options?: Record<string, unknown>
}

function image(seed: number): RawImage {
  const data = Uint8ClampedArray.from({ length: 3 * 256 }, (_, i) => (i * (seed * 37 + 11)) % 251)
  return new RawImage(data, 16, 16, 3)
}

const CASES: readonly Case[] = [
  { model: 'bert', task: 'text-classification', joining: 'padded', inputs: TEXTS, options: { top_k: 5 } },
  {
    model: 'roberta',
    task: 'feature-extraction',
    joining: 'padded',
    inputs: TEXTS,
    options: { pooling: 'mean' },
  },
  {
    model: 'vit',
    task: 'image-classification',
    joining: 'equal',
    inputs: [1, 2, 3].map(image),
    options: { top_k: 5 },
  },
  { model: 'gpt2', task: 'text-generation', joining: 'padded', inputs: TEXTS, options: GREEDY },
  { model: 'llama', task: 'text-generation', joining: 'padded', inputs: TEXTS, options: GREEDY },
  { model: 't5', task: 'text2text-generation', joining: 'equal', inputs: TEXTS, options: GREEDY },
  { model: 'bart', task: 'text2text-generation', joining: 'equal', inputs: TEXTS, options: GREEDY },
]

/** Numbers become close, everything else must be equal. */
function expectSame(received: unknown, expected: unknown): void {
  if (isTensor(expected) && isTensor(received)) {
    expect(received.dims).toEqual(expected.dims)
    const [a, b] = [received.data as Float32Array, expected.data as Float32Array]
    const largest = b.reduce((most, x) => Math.max(most, Math.abs(x)), 0)
    expect(a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i])), 0)).toBeLessThan(
      1000 * 2 ** -24 * largest,
    )
  } else if (typeof expected === 'number')
    expect(Math.abs((received as number) - expected)).toBeLessThan(1e-5)
  else if (typeof expected === 'object' && expected !== null)
    for (const [key, value] of Object.entries(expected))
      expectSame((received as Record<string, unknown>)[key], value)
  else expect(received).toBe(expected)
}

const isTensor = (value: unknown): value is Tensor =>
  typeof value === 'object' && value !== null && 'ort_tensor' in value

describe.each(CASES)('$model, $task', ({ model, task, joining, inputs, options }) => {
  test('many calls at once give the answers of the pipeline alone', async () => {
    const { folder, adapters } = await writeAdapters(model)
    const open = () =>
      pipeline(task as 'text-classification', model, { dtype: 'fp32' }) as unknown as Promise<Pipe>
    const alone = await open()
    const attached = await attach(alone as never)
    for (const [name, adapter] of adapters) await attached.loadAdapter(adapter, { name })
    const pipe = await open()
    const batches: number[] = []
    const engine = await createEngine(pipe, {
      name: model,
      resolver: folderResolver(folder),
      onBatch: ({ runs }) => batches.push(runs),
    })
    try {
      expect(engine.joining).toBe(joining)
      const names = [...adapters.keys(), null]
      // Graphs are opened before, so that the calls below meet in batches.
      for (const name of adapters.keys()) await engine.prepare(name, { signal })
      batches.length = 0
      const asked = names.flatMap((name) => inputs.map((input) => ({ name, input })))
      const answers = await Promise.all(
        asked.map(({ name, input }) => engine.call(name, (view) => view(input, options), { signal })),
      )
      expect(Math.max(...batches)).toBeGreaterThan(1)
      for (const [i, { name, input }] of asked.entries()) {
        if (name === null) attached.disableAdapters()
        else {
          attached.enableAdapters()
          attached.setAdapter(name)
        }
        expectSame(answers[i], await alone(input, options))
      }
    } finally {
      await engine.close()
      await pipe.model.dispose()
      await attached.detach()
      await alone.model.dispose()
    }
  })
})
