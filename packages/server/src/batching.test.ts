/** What shares a batch and what does not; calls that fail, that are cancelled, and that join a running batch. */
import { setMaxListeners } from 'node:events'
import { fileURLToPath } from 'node:url'
import { createAdapter, createConfig } from '@fourierft/core'
import { env, pipeline, Tensor } from '@huggingface/transformers'
import { afterEach, describe, expect, test, vi } from 'vitest'
import type { BatchFacts } from './batcher.js'
import type { Pipe } from './engine.js'
import { createEngine, type EngineOptions, type ModelEngine } from './model-engine.js'
import { functionResolver } from './resolver/function.js'

const FIXTURES = fileURLToPath(new URL('../../transformers/test/__fixtures__', import.meta.url))
env.localModelPath = FIXTURES
env.allowRemoteModels = false
const signal = new AbortController().signal
setMaxListeners(0, signal)

const opened: { engine: ModelEngine; pipe: Pipe }[] = []
afterEach(async () => {
  for (const { engine, pipe } of opened.splice(0)) {
    await engine.close(0)
    await pipe.model.dispose()
  }
})

async function open(task: string, model: string, dtype = 'fp32', options: EngineOptions = {}) {
  const pipe = (await pipeline(task as 'text-classification', model, {
    dtype: dtype as 'fp32',
  })) as unknown as Pipe
  const batches: BatchFacts[] = []
  const resolver = functionResolver((name) =>
    name.startsWith('adapter-') ? `${FIXTURES}/${model}/${name}` : undefined,
  )
  const engine = await createEngine(pipe, {
    name: model,
    resolver,
    onBatch: (batch) => batches.push(batch),
    ...options,
  })
  opened.push({ engine, pipe })
  return { engine, batches }
}

describe('the probe', () => {
  test.each([
    ['text-classification', 'bert', 'fp32', 'padded'],
    // One scale for all rows of a batch: a row would change the answers of the others.
    ['text-classification', 'bert', 'q8', 'single'],
    ['text-classification', 'bert', 'q4', 'padded'],
    ['text-classification', 'bert', 'fp16', 'padded'],
    ['text-generation', 'gpt2', 'q8', 'single'],
    ['text-generation', 'llama', 'q4', 'padded'],
  ])('%s with %s in %s: %s', async (task, model, dtype, joining) => {
    expect((await open(task, model, dtype)).engine.joining).toBe(joining)
  })

  test('a model in q8 answers each request as if it were alone', async () => {
    const { engine, batches } = await open('text-classification', 'bert', 'q8')
    const texts = ['one', 'a small cat sat on the mat', 'the dog']
    const ask = (text: string) => engine.call('adapter-a', (pipe) => pipe(text), { signal })
    const together = await Promise.all(texts.map(ask))
    for (const [i, text] of texts.entries()) expect(together[i]).toEqual(await ask(text))
    expect(Math.max(...batches.map(({ runs }) => runs))).toBe(1)
  })
})

test('requests that arrive while the model runs share the next batch', async () => {
  const { engine, batches } = await open('text-classification', 'bert')
  const ask = (i: number) =>
    engine.call(i % 2 ? 'adapter-a' : null, (pipe) => pipe('the cat sat on the mat'), { signal })
  await ask(1)
  batches.length = 0
  await Promise.all(Array.from({ length: 40 }, (_, i) => ask(i)))
  expect(batches.reduce((sum, { runs }) => sum + runs, 0)).toBe(40)
  expect(batches.length).toBeLessThanOrEqual(4)
  expect(Math.max(...batches.map(({ rows }) => rows))).toBeLessThanOrEqual(32)
})

test('very different lengths do not share a batch', async () => {
  const { engine, batches } = await open('text-classification', 'bert')
  const long = 'the cat sat on the mat and the dog sat on the cat'
  batches.length = 0
  await Promise.all(
    ['cat', long, 'dog', long].map((text) => engine.call(null, (pipe) => pipe(text), { signal })),
  )
  for (const { rows, length, filled } of batches)
    expect(1 - filled / (rows * length)).toBeLessThanOrEqual(0.1)
})

test('a generation joins the running batch between two steps, and leaves it', async () => {
  const { engine, batches } = await open('text-generation', 'gpt2')
  const generate = (tokens: number) =>
    engine.call(
      null,
      (pipe) => pipe('the cat', { max_new_tokens: tokens, min_new_tokens: tokens, do_sample: false }),
      {
        signal,
      },
    )
  batches.length = 0
  const long = generate(20)
  while (batches.length < 5) await new Promise((done) => setImmediate(done))
  await generate(5)
  await long
  const runs = batches.map(({ runs }) => runs)
  expect(runs[0]).toBe(1)
  expect(runs.at(-1)).toBe(1)
  // The five steps of the second call, but the first, which reads its prompt.
  expect(runs.filter((count) => count === 2).length).toBe(4)
  expect(runs.reduce((sum, count) => sum + count, 0)).toBe(25)
})

test('a run that the model rejects fails alone', async () => {
  const { engine, batches } = await open('text-classification', 'bert')
  const names = engine.signature?.inputs.map(({ name }) => name) ?? []
  const feeds = (id: number) =>
    Object.fromEntries(
      names.map((name) => [
        name,
        (
          new Tensor(
            'int64',
            BigInt64Array.of(BigInt(name === 'input_ids' ? id : name === 'attention_mask' ? 1 : 0)),
            [1, 1],
          ) as unknown as { ort_tensor: never }
        ).ort_tensor,
      ]),
    )
  batches.length = 0
  const outcomes = await Promise.allSettled(
    [3, 999_999, 4].map((id) => engine.run(null, feeds(id), { signal })),
  )
  expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
  expect(batches.map(({ runs }) => runs)).toContain(3)
})

describe('cancellation', () => {
  test('a call that is cancelled rejects at once with the reason, its runs leave the queue, and nothing is printed', async () => {
    const { engine, batches } = await open('text-generation', 'gpt2')
    const write = [vi.spyOn(process.stdout, 'write'), vi.spyOn(process.stderr, 'write')]
    const consoles = (['log', 'warn', 'error', 'info'] as const).map((name) => vi.spyOn(console, name))
    const controller = new AbortController()
    const call = engine.call(null, (pipe) => pipe('the cat', { max_new_tokens: 100, min_new_tokens: 100 }), {
      signal: controller.signal,
    })
    const other = engine.call(null, (pipe) => pipe('the dog', { max_new_tokens: 8, min_new_tokens: 8 }), {
      signal,
    })
    while (batches.length < 3) await new Promise((done) => setImmediate(done))
    controller.abort(new Error('the client has gone'))
    await expect(call).rejects.toThrow('the client has gone')
    const after = batches.length
    await other
    await engine.call(null, (pipe) => pipe('a', { max_new_tokens: 2 }), { signal })
    // At most the run that had begun.
    expect(batches.slice(after + 1).every(({ runs }) => runs === 1)).toBe(true)
    for (const spy of consoles) expect(spy).not.toHaveBeenCalled()
    for (const spy of write) spy.mockRestore()
    for (const spy of consoles) spy.mockRestore()
  })

  test('a call is not begun if it is cancelled already', async () => {
    const { engine } = await open('text-classification', 'bert')
    const work = vi.fn(async () => 1)
    await expect(engine.call(null, work, { signal: AbortSignal.abort(new Error('late')) })).rejects.toThrow(
      'late',
    )
    expect(work).not.toHaveBeenCalled()
  })
})

test('generations beyond a batch wait for their turn, and more than maxQueue are refused', async () => {
  const { engine, batches } = await open('text-generation', 'gpt2', 'fp32', { maxBatch: 2, maxQueue: 4 })
  const generate = () =>
    engine.call(null, (pipe) => pipe('the cat', { max_new_tokens: 6, min_new_tokens: 6 }), { signal })
  batches.length = 0
  const outcomes = await Promise.allSettled(Array.from({ length: 6 }, generate))
  expect(outcomes.filter(({ status }) => status === 'fulfilled').length).toBe(4)
  expect(outcomes.at(-1)).toMatchObject({ reason: { code: 'queue_full', status: 429 } })
  expect(Math.max(...batches.map(({ runs }) => runs))).toBe(2)
})

test('adapters can be loaded and unloaded by name; calls that have begun keep theirs', async () => {
  const { engine } = await open('text-generation', 'gpt2')
  const generate = (name: string | null) =>
    engine.call(
      name,
      (pipe) => pipe('the cat', { max_new_tokens: 10, min_new_tokens: 10, do_sample: false }),
      { signal },
    )
  await engine.load('mine', `${FIXTURES}/gpt2/adapter-a`, { signal })
  expect(await engine.list()).toMatchObject([{ name: 'mine', isResident: true, isPinned: false }])
  const expected = await generate('mine')
  const running = generate('mine')
  while (!(await engine.list()).some(({ isResident }) => isResident))
    await new Promise((done) => setImmediate(done))
  await new Promise((done) => setImmediate(done))
  await engine.unload('mine')
  expect(await running).toEqual(expected)
  await expect(generate('mine')).rejects.toMatchObject({ code: 'model_not_found' })
  await expect(engine.unload('mine')).rejects.toMatchObject({ code: 'model_not_found' })
  await expect(engine.load('other', `${FIXTURES}/gpt2/nothing`, { signal })).rejects.toMatchObject({
    status: 400,
  })
  expect(await engine.list()).toEqual([])
})

test('an adapter of another model is refused, and the base model answers', async () => {
  const config = createConfig({ nFrequency: 4, targetModules: ['nowhere'] })
  const wrong = createAdapter(config, { nowhere: [4, 4] })
  const wide = createAdapter(createConfig({ nFrequency: 4 }), {
    'bert.encoder.layer.0.attention.self.query': [64, 64],
  })
  const { engine } = await open('text-classification', 'bert', 'fp32', {
    resolver: functionResolver((name) => (name === 'wrong' ? wrong : wide)),
  })
  for (const name of ['wrong', 'wide'])
    await expect(engine.call(name, (pipe) => pipe('a'), { signal })).rejects.toMatchObject({
      code: 'invalid_adapter',
      status: 422,
    })
  await engine.call(null, (pipe) => pipe('a'), { signal })
})

test('after close, calls are refused, and calls that have begun end', async () => {
  const { engine } = await open('text-generation', 'gpt2')
  const running = engine.call(null, (pipe) => pipe('the cat', { max_new_tokens: 20, min_new_tokens: 20 }), {
    signal,
  })
  const closing = engine.close()
  await expect(engine.call(null, (pipe) => pipe('a'), { signal })).rejects.toMatchObject({
    code: 'shutting_down',
    status: 503,
  })
  await expect(running).resolves.toBeDefined()
  await closing
})
