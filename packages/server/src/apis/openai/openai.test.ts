/** OpenAI's API without a network: answers against the pipelines, streams against whole answers, and bad input. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { events, get, post } from '../../__fixtures__/http.js'
import { openSingleEngine, type SingleEngine } from '../../__fixtures__/single-engine.js'
import { createHandler, type Handler } from '../../handler.js'

const OPTIONS = { signal: new AbortController().signal }
const PROMPT = 'the river runs'
const TEMPLATE =
  "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}{{ m.content }} {% endfor %}"

function serving(task: Parameters<typeof openSingleEngine>[0], model: string) {
  const opened: { engine: SingleEngine; handler: Handler } = {} as never
  beforeAll(async () => {
    opened.engine = await openSingleEngine(task, model)
    opened.handler = createHandler(opened.engine, { logger: false })
  })
  afterAll(() => opened.engine.close())
  return opened
}

/** What the pipeline gives for a prompt, without the prompt. */
async function alone(
  engine: SingleEngine,
  adapter: string | null,
  prompt: string,
  options: object = {},
): Promise<string> {
  const result = await engine.call(
    adapter,
    (pipe) => pipe(prompt, { return_full_text: false, ...options }),
    OPTIONS,
  )
  return (result as { generated_text: string }[])[0]?.generated_text ?? ''
}

interface Chunk {
  readonly choices: readonly {
    text?: string
    delta?: { content?: string }
    finish_reason: string | null
    index: number
  }[]
  readonly usage?: object
}
const chunks = (text: string) => events(text).slice(0, -1) as Chunk[]
const joined = (given: readonly Chunk[]) =>
  given.map(({ choices }) => choices[0]?.text ?? choices[0]?.delta?.content ?? '').join('')

describe.each(['gpt2', 'llama'])('completions of %s', (model) => {
  const opened = serving('text-generation', model)
  const complete = (body: object) =>
    post(opened.handler, '/v1/completions', { model, temperature: 0, prompt: PROMPT, ...body })

  test('greedy text equals the pipeline, for the base and for adapters', async () => {
    for (const [name, adapter] of [
      [model, null],
      [`${model}:adapter-a`, 'adapter-a'],
      ['adapter-b', 'adapter-b'],
    ] as const) {
      const wanted = await alone(opened.engine, adapter, PROMPT, { max_new_tokens: 40 })
      expect(wanted.length).toBeGreaterThan(10)
      const { status, json } = await complete({ model: name, max_tokens: 40 })
      expect(status).toBe(200)
      expect(json.choices[0].text).toBe(wanted)
      const streamed = await complete({ model: name, max_tokens: 40, stream: true })
      expect(joined(chunks(streamed.text))).toBe(wanted)
      expect(events(streamed.text).at(-1)).toBe('[DONE]')
    }
  })
  test('usage and the reason of the end', async () => {
    const { json } = await complete({ max_tokens: 5 })
    expect(json).toMatchObject({
      object: 'text_completion',
      model,
      choices: [{ index: 0, finish_reason: 'length' }],
    })
    const prompt = opened.engine.pipe.tokenizer.encode(PROMPT, {
      add_special_tokens: model === 'llama',
    }).length
    expect(json.usage).toEqual({ prompt_tokens: prompt, completion_tokens: 5, total_tokens: prompt + 5 })
    expect((await complete({})).json.usage.completion_tokens).toBeLessThanOrEqual(16)
    const streamed = chunks(
      (await complete({ max_tokens: 5, stream: true, stream_options: { include_usage: true } })).text,
    )
    expect(streamed.at(-1)).toMatchObject({ choices: [], usage: json.usage })
    expect(streamed.at(-2)?.choices[0]?.finish_reason).toBe('length')
  })
  test('the end token ends with stop', async () => {
    const { pipe } = opened.engine
    const eos = pipe.model.config.eos_token_id as number
    const { json } = await complete({ max_tokens: 5, logit_bias: { [eos]: 100 } })
    expect(json.choices[0]).toMatchObject({ text: '', finish_reason: 'stop' })
    expect(json.usage.completion_tokens).toBe(1)
    expect(
      (await complete({ max_tokens: 1, logit_bias: { [eos]: 100 } })).json.choices[0].finish_reason,
    ).toBe('stop')
  })
  test('stop strings cut exactly, wherever tokens end, also in streams', async () => {
    const whole = await alone(opened.engine, null, PROMPT, { max_new_tokens: 40 })
    for (let begin = 1; begin < whole.length - 5; begin += 3) {
      const stop = whole.slice(begin, begin + 4)
      const wanted = whole.slice(0, whole.indexOf(stop))
      const { json } = await complete({ max_tokens: 40, stop })
      expect([json.choices[0].text, json.choices[0].finish_reason]).toEqual([wanted, 'stop'])
      const streamed = chunks((await complete({ max_tokens: 40, stop: ['\u0001', stop], stream: true })).text)
      expect(joined(streamed)).toBe(wanted)
      expect(streamed.at(-1)?.choices[0]?.finish_reason).toBe('stop')
    }
  })
  test('seeds: equal answers for one seed, whatever runs beside it', async () => {
    const sampled = (seed: number) => complete({ temperature: 1.5, seed, max_tokens: 30 })
    const [first, other, second] = await Promise.all([sampled(1), sampled(2), sampled(1)])
    expect(first?.json.choices).toEqual(second?.json.choices)
    expect(first?.json.choices).not.toEqual(other?.json.choices)
    expect((await sampled(1)).json.choices).toEqual(first?.json.choices)
  })
  test('several prompts, as texts and as tokens', async () => {
    const prompts = [PROMPT, 'she reads a letter']
    const each = await Promise.all(
      prompts.map(async (prompt) => (await complete({ prompt })).json.choices[0].text),
    )
    const texts = (await complete({ prompt: prompts })).json
    expect(texts.choices.map(({ text }: { text: string }) => text)).toEqual(each)
    const ids = prompts.map((prompt) =>
      opened.engine.pipe.tokenizer.encode(prompt, { add_special_tokens: model === 'llama' }),
    )
    const tokens = (await complete({ prompt: ids })).json
    expect(tokens.choices).toEqual(texts.choices)
    expect(tokens.usage).toEqual(texts.usage)
    expect((await complete({ prompt: ids[0] })).json.choices[0].text).toBe(each[0])
    const streamed = chunks((await complete({ prompt: prompts, stream: true })).text)
    for (const index of [0, 1]) {
      expect(joined(streamed.filter(({ choices }) => choices[0]?.index === index))).toBe(each[index])
    }
  })
  test('a prompt that is too long is context_length_exceeded; too many tokens are lowered', async () => {
    const { status, json } = await complete({ prompt: new Array(128).fill(5) })
    expect([status, json.error.code, json.error.param]).toEqual([400, 'context_length_exceeded', 'prompt'])
    const { json: full } = await complete({ prompt: new Array(120).fill(5), max_tokens: 100 })
    expect(full.usage.completion_tokens).toBeLessThanOrEqual(8)
  })
  test.each([
    [{ model: undefined }, 'model'],
    [{ prompt: undefined }, 'prompt'],
    [{ prompt: { text: 'a' } }, 'prompt'],
    [{ prompt: [] }, 'prompt'],
    [{ prompt: [1.5] }, 'prompt'],
    [{ prompt: [-1] }, 'prompt'],
    [{ prompt: [160] }, 'prompt'],
    [{ prompt: new Array(65).fill('a') }, 'prompt'],
    [{ max_tokens: 0 }, 'max_tokens'],
    [{ max_tokens: '5' }, 'max_tokens'],
    [{ temperature: 2.1 }, 'temperature'],
    [{ temperature: 'hot' }, 'temperature'],
    [{ top_p: 0 }, 'top_p'],
    [{ top_k: 1.5 }, 'top_k'],
    [{ seed: 1.5 }, 'seed'],
    [{ stop: ['a', 'b', 'c', 'd', 'e'] }, 'stop'],
    [{ stop: '' }, 'stop'],
    [{ stream: 'yes' }, 'stream'],
    [{ n: 2 }, 'n'],
    [{ best_of: 2 }, 'best_of'],
    [{ logprobs: 3 }, 'logprobs'],
    [{ echo: true }, 'echo'],
    [{ logit_bias: { a: 1 } }, 'logit_bias.a'],
  ])('bad input %#: %j', async (body, param) => {
    const { status, json } = await complete(body)
    expect([status, json.error.type, json.error.code]).toEqual([
      400,
      'invalid_request_error',
      'invalid_value',
    ])
    expect(json.error.param).toBe(param)
  })
  test('fields that are null or unknown are ignored', async () => {
    const body = { stop: null, seed: null, n: null, logprobs: null, user: 'someone', future_field: { a: 1 } }
    expect((await complete(body)).status).toBe(200)
  })
  test('an error before the first token of a stream is an HTTP error', async () => {
    const { status, json } = await complete({ model: 'nobody', stream: true })
    expect([status, json.error.code]).toEqual([404, 'model_not_found'])
  })
  test('a stream that takes too long ends with the error as its last object', async () => {
    const { engine } = opened
    const handler = createHandler(engine, { logger: false, timeout: 150 })
    const { forward } = engine.pipe.model
    engine.pipe.model.forward = async (...args: unknown[]) => {
      await new Promise((resolve) => setTimeout(resolve, 20))
      return forward.apply(engine.pipe.model, args)
    }
    const request = { model, prompt: PROMPT, max_tokens: 100, stream: true, logit_bias: { 0: -100, 2: -100 } }
    const { status, text } = await post(handler, '/v1/completions', request)
    await engine.idle()
    engine.pipe.model.forward = forward
    expect(status).toBe(200)
    expect(events(text).at(-2)).toMatchObject({ error: { code: 'deadline_exceeded', type: 'server_error' } })
    expect(events(text).length).toBeLessThan(20)
    const { text: metrics } = await get(handler, '/metrics')
    expect(metrics).toContain('fourierft_requests_total{api="completions",status="504"} 1')
  })
  test('a reader that leaves a stream ends the generation', async () => {
    const body = JSON.stringify({
      model,
      prompt: PROMPT,
      max_tokens: 120,
      stream: true,
      temperature: 1,
      seed: 1,
      logit_bias: { 0: -100, 2: -100 },
    })
    const response = await opened.handler(
      new Request('http://server/v1/completions', { method: 'POST', body }),
    )
    const reader = response.body?.getReader()
    await reader?.read()
    let steps = 0
    const forward = opened.engine.pipe.model.forward
    opened.engine.pipe.model.forward = (...args: unknown[]) => {
      steps++
      return forward.apply(opened.engine.pipe.model, args)
    }
    await reader?.cancel()
    await opened.engine.idle()
    opened.engine.pipe.model.forward = forward
    expect(opened.engine.running).toBe(0)
    expect(steps).toBeLessThan(5)
  })
})

describe('chat', () => {
  const opened = serving('text-generation', 'llama')
  beforeAll(() => {
    opened.engine.pipe.tokenizer.chat_template = TEMPLATE
  })
  const messages = [
    { role: 'system', content: 'the rain' },
    { role: 'user', content: PROMPT },
  ]
  const chat = (body: object = {}) =>
    post(opened.handler, '/v1/chat/completions', {
      model: 'llama',
      temperature: 0,
      max_tokens: 20,
      messages,
      ...body,
    })

  test('equals the pipeline for the same chat', async () => {
    const run = (adapter: string | null) =>
      opened.engine.call(adapter, (pipe) => pipe(messages, { max_new_tokens: 20 }), OPTIONS)
    for (const [model, adapter] of [
      ['llama', null],
      ['llama:adapter-a', 'adapter-a'],
    ] as const) {
      const [{ generated_text }] = (await run(adapter)) as [{ generated_text: { content: string }[] }]
      const wanted = generated_text.at(-1)?.content
      const { json } = await chat({ model })
      expect(json).toMatchObject({
        object: 'chat.completion',
        model,
        choices: [{ message: { role: 'assistant', content: wanted } }],
      })
      const streamed = chunks((await chat({ model, stream: true })).text)
      expect(streamed[0]?.choices[0]?.delta).toEqual({ role: 'assistant', content: '' })
      expect(joined(streamed)).toBe(wanted)
      expect(streamed.at(-1)?.choices[0]).toMatchObject({ delta: {}, finish_reason: 'length' })
    }
  })
  test('content in parts, the newer names of role and limit', async () => {
    const parts = [
      {
        role: 'developer',
        content: [
          { type: 'text', text: 'the ' },
          { type: 'text', text: 'rain' },
        ],
      },
      { role: 'user', content: PROMPT },
    ]
    const { json } = await chat({ messages: parts, max_tokens: undefined, max_completion_tokens: 20 })
    expect(json.choices).toEqual((await chat()).json.choices)
  })
  test('without a limit the context is the limit', async () => {
    const { json } = await chat({ max_tokens: undefined, logit_bias: { 2: -100 } })
    expect(json.usage.total_tokens).toBe(128)
  })
  test.each([
    [{ messages: undefined }, 'messages'],
    [{ messages: [] }, 'messages'],
    [{ messages: ['hi'] }, 'messages.0'],
    [{ messages: [{ role: 'robot', content: 'a' }] }, 'messages.0.role'],
    [{ messages: [{ role: 'user' }] }, 'messages.0.content'],
    [
      { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'x' } }] }] },
      'messages.0.content',
    ],
    [{ tools: [{ type: 'function', function: { name: 'f' } }] }, 'tools'],
    [{ logprobs: true }, 'logprobs'],
    [{ n: 3 }, 'n'],
    [{ response_format: { type: 'json_object' } }, 'response_format'],
  ])('bad input %#: %j', async (body, param) => {
    const { status, json } = await chat(body)
    expect([status, json.error.code, json.error.param]).toEqual([400, 'invalid_value', param])
  })
  test('a model without a chat template says so', async () => {
    opened.engine.pipe.tokenizer.chat_template = null
    const { status, json } = await chat()
    opened.engine.pipe.tokenizer.chat_template = TEMPLATE
    expect([status, json.error.param]).toEqual([400, 'model'])
    expect(json.error.message).toContain('/v1/completions')
  })
  test('other tasks say which task the model has', async () => {
    const { status, json } = await post(opened.handler, '/v1/embeddings', { model: 'llama', input: 'a' })
    expect([status, json.error.code]).toEqual([400, 'unsupported_task'])
    expect(json.error.message).toContain('text-generation')
  })
})

describe('embeddings', () => {
  const opened = serving('feature-extraction', 'roberta')
  const TEXTS = ['rain', 'the river runs down from the hills', 'she reads']
  const embed = (body: object) => post(opened.handler, '/v1/embeddings', { model: 'roberta', ...body })
  const aloneVector = async (
    adapter: string | null,
    text: string,
    options: Record<string, unknown> = { pooling: 'mean', normalize: true },
  ) => {
    const tensor = await opened.engine.call(adapter, (pipe) => pipe(text, options), OPTIONS)
    return Array.from((tensor as { data: Float32Array }).data)
  }

  test('equal the pipeline, bit for bit, in the order of the inputs', async () => {
    for (const [model, adapter] of [
      ['roberta', null],
      ['adapter-a', 'adapter-a'],
    ] as const) {
      const { status, json } = await embed({ model, input: TEXTS })
      expect(status).toBe(200)
      expect(json).toMatchObject({ object: 'list', model })
      for (const [index, text] of TEXTS.entries()) {
        expect(json.data[index]).toEqual({
          object: 'embedding',
          index,
          embedding: await aloneVector(adapter, text),
        })
      }
      const tokens = TEXTS.reduce((sum, text) => sum + opened.engine.pipe.tokenizer.encode(text).length, 0)
      expect(json.usage).toEqual({ prompt_tokens: tokens, total_tokens: tokens })
    }
  })
  test('base64 has the same bits', async () => {
    const { json } = await embed({ input: TEXTS[1], encoding_format: 'base64' })
    const bytes = Buffer.from(json.data[0].embedding, 'base64')
    const numbers = Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i))
    expect(numbers).toEqual(await aloneVector(null, TEXTS[1] as string))
  })
  test('token ids equal the text', async () => {
    const ids = TEXTS.map((text) => opened.engine.pipe.tokenizer.encode(text))
    const wanted = (await embed({ input: TEXTS })).json.data
    expect((await embed({ input: ids })).json.data).toEqual(wanted)
    expect((await embed({ input: ids[0] })).json.data[0]).toEqual(wanted[0])
  })
  test('fewer dimensions have the length 1 again', async () => {
    const { json } = await embed({ input: TEXTS[1], dimensions: 8 })
    const whole = (await aloneVector(null, TEXTS[1] as string)).slice(0, 8)
    const length = Math.hypot(...whole)
    expect(json.data[0].embedding).toHaveLength(8)
    for (const [i, value] of whole.entries()) expect(json.data[0].embedding[i]).toBeCloseTo(value / length, 6)
    expect((await embed({ input: 'a', dimensions: 33 })).json.error.param).toBe('dimensions')
  })
  test('the server can pool in other ways', async () => {
    const [text] = TEXTS as [string]
    for (const [pooling, row] of [
      ['cls', 0],
      ['last_token', -1],
    ] as const) {
      const handler = createHandler(opened.engine, {
        logger: false,
        embedding: { pooling, normalize: false },
      })
      const { json } = await post(handler, '/v1/embeddings', { model: 'roberta', input: text })
      const all = await aloneVector(null, text, {})
      const width = json.data[0].embedding.length
      expect(json.data[0].embedding).toEqual(row === 0 ? all.slice(0, width) : all.slice(-width))
    }
  })
  test.each([
    [{}, 'input'],
    [{ input: '', model: 5 }, 'model'],
    [{ input: [] }, 'input'],
    [{ input: [[]] }, 'input'],
    [{ input: ['a', 1] }, 'input'],
    [{ input: [100_000] }, 'input'],
    [{ input: new Array(2049).fill('a') }, 'input'],
    [{ input: 'a', encoding_format: 'hex' }, 'encoding_format'],
    [{ input: 'a', dimensions: 0 }, 'dimensions'],
  ])('bad input %#', async (body, param) => {
    const { status, json } = await embed(body)
    expect([status, json.error.code, json.error.param]).toEqual([400, 'invalid_value', param])
  })
  test('an input that is too long is context_length_exceeded', async () => {
    const { status, json } = await embed({ input: 'the river '.repeat(500) })
    expect([status, json.error.code]).toEqual([400, 'context_length_exceeded'])
  })
  test('models are listed with their adapters, as in vLLM', async () => {
    const { json } = await get(opened.handler, '/v1/models')
    expect(json.object).toBe('list')
    expect(json.data).toMatchObject([
      {
        id: 'roberta',
        object: 'model',
        parent: null,
        root: 'roberta',
        task: 'feature-extraction',
        joining: 'single',
      },
      { id: 'adapter-a', object: 'model', parent: 'roberta' },
      { id: 'adapter-b', object: 'model', parent: 'roberta' },
    ])
    expect((await get(opened.handler, '/v1/models/adapter-a')).json).toEqual(json.data[1])
    expect((await get(opened.handler, '/v1/models/roberta')).json).toEqual(json.data[0])
    for (const name of ['nobody', 'a/b', 'a%2Fb', '..%2F..%2Fetc']) {
      const { status, json } = await get(opened.handler, `/v1/models/${name}`)
      expect([status, json.error.code]).toEqual([404, 'model_not_found'])
    }
  })
})
