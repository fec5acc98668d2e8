/** The server on a real port: the `openai` client, clients that leave, and the shutdown. */
import OpenAI, { APIError, AuthenticationError, BadRequestError, NotFoundError } from 'openai'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openSingleEngine, type SingleEngine } from './__fixtures__/single-engine.js'
import { listen, type RunningServer } from './node.js'

const PROMPT = 'the river runs'

interface Opened {
  engine: SingleEngine
  server: RunningServer
  client: OpenAI
}

async function open(
  task: Parameters<typeof openSingleEngine>[0],
  model: string,
  options = {},
): Promise<Opened> {
  const engine = await openSingleEngine(task, model)
  const server = await listen(engine, { port: 0, logger: false, apiKey: 'key', ...options })
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'key', maxRetries: 0 })
  return { engine, server, client }
}

function serving(...args: Parameters<typeof open>): Opened {
  const opened = {} as Opened
  beforeAll(async () => void Object.assign(opened, await open(...args)))
  afterAll(() => opened.server.close())
  return opened
}

const caught = (promise: Promise<unknown>) =>
  promise.then(
    () => new Error('nothing was thrown'),
    (error: unknown) => error,
  )

describe('the openai client: text', () => {
  const opened = serving('text-generation', 'llama', { basePath: '/ai' })
  beforeAll(() => {
    opened.engine.pipe.tokenizer.chat_template = '{% for m in messages %}{{ m.content }} {% endfor %}'
  })
  const messages = [{ role: 'user' as const, content: PROMPT }]

  test('chat, whole and streamed', async () => {
    const request = { model: 'llama:adapter-a', messages, temperature: 0, max_tokens: 12 }
    const whole = await opened.client.chat.completions.create(request)
    expect(whole.choices[0]?.message.content?.length).toBeGreaterThan(5)
    expect(whole.usage?.completion_tokens).toBe(12)
    const stream = await opened.client.chat.completions.create({
      ...request,
      stream: true,
      stream_options: { include_usage: true },
    })
    let text = ''
    let usage: unknown
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? ''
      usage = chunk.usage ?? usage
    }
    expect(text).toBe(whole.choices[0]?.message.content)
    expect(usage).toEqual(whole.usage)
    const final = await opened.client.chat.completions.stream(request).finalChatCompletion()
    expect(final.choices[0]?.message.content).toBe(text)
  })
  test('completions', async () => {
    const { choices } = await opened.client.completions.create({
      model: 'llama',
      prompt: PROMPT,
      temperature: 0,
    })
    expect(choices[0]?.text.length).toBeGreaterThan(5)
  })
  test('models', async () => {
    const names: string[] = []
    for await (const { id } of opened.client.models.list()) names.push(id)
    expect(names).toEqual(['llama', 'adapter-a', 'adapter-b'])
    expect((await opened.client.models.retrieve('adapter-a')).id).toBe('adapter-a')
  })
  test('errors have the classes of the client', async () => {
    const { client, server } = opened
    const ask = (model: string, other: object = {}) =>
      caught(client.completions.create({ model, prompt: PROMPT, ...other }))
    const unknown = await ask('nobody')
    expect(unknown).toBeInstanceOf(NotFoundError)
    expect(unknown).toMatchObject({ code: 'model_not_found', param: 'model', type: 'invalid_request_error' })
    expect((unknown as APIError).requestID).toMatch(/^[0-9a-f-]{36}$/)
    expect(await caught(client.models.retrieve('a/b'))).toBeInstanceOf(NotFoundError)
    const wrong = await ask('llama', { temperature: 3 })
    expect(wrong).toBeInstanceOf(BadRequestError)
    expect(wrong).toMatchObject({ code: 'invalid_value', param: 'temperature' })
    expect(await ask('llama', { prompt: new Array(200).fill(5) })).toMatchObject({
      code: 'context_length_exceeded',
    })
    const stranger = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'other', maxRetries: 0 })
    expect(await caught(stranger.models.list().then())).toBeInstanceOf(AuthenticationError)
  })
  test('a client that leaves ends its generation, whole or streamed, and counts as 499', async () => {
    const { client, engine, server } = opened
    const slow = engine.pipe.model.forward
    let steps = 0
    // A model of realistic speed, so that there is time to leave.
    engine.pipe.model.forward = async (...args: unknown[]) => {
      steps++
      await new Promise((resolve) => setTimeout(resolve, 20))
      return slow.apply(engine.pipe.model, args)
    }
    const request = { model: 'llama', messages, max_tokens: 100, seed: 1, logit_bias: { 2: -100 } }
    const stream = await client.chat.completions.create({ ...request, stream: true })
    for await (const _ of stream) break
    stream.controller.abort()
    await engine.idle()
    expect(steps).toBeLessThan(30)
    steps = 0
    const leaving = new AbortController()
    setTimeout(() => leaving.abort(), 100)
    await caught(client.chat.completions.create(request, { signal: leaving.signal }))
    await engine.idle()
    expect(steps).toBeLessThan(30)
    engine.pipe.model.forward = slow
    const metrics = async () =>
      (await fetch(`${server.url}/metrics`, { headers: { authorization: 'Bearer key' } })).text()
    await expect.poll(metrics).toContain('fourierft_requests_total{api="chat_completions",status="499"} 2')
    expect(await metrics()).toContain('fourierft_requests_in_flight 1')
  })
  test('a failure within a stream is the last event', async () => {
    const { client, engine } = opened
    const forward = engine.pipe.model.forward
    let steps = 0
    engine.pipe.model.forward = (...args: unknown[]) => {
      if (++steps === 4) throw new Error('the disk is full')
      return forward.apply(engine.pipe.model, args)
    }
    const stream = await client.chat.completions.create({
      model: 'llama',
      messages,
      stream: true,
      max_tokens: 50,
      temperature: 0,
    })
    const read = async () => {
      for await (const _ of stream);
    }
    const error = await caught(read())
    engine.pipe.model.forward = forward
    expect(error).toBeInstanceOf(APIError)
    expect(String(error)).toContain('the server failed')
    expect(String(error)).not.toContain('disk')
  })
})

describe('the openai client: embeddings', () => {
  const opened = serving('feature-extraction', 'roberta')
  test('base64, which the client asks for, equals numbers', async () => {
    const request = { model: 'roberta', input: [PROMPT, 'rain'] }
    const implicit = await opened.client.embeddings.create(request)
    const numbers = await opened.client.embeddings.create({ ...request, encoding_format: 'float' })
    expect(implicit.data.map(({ embedding }) => Array.from(embedding))).toEqual(
      numbers.data.map(({ embedding }) => embedding),
    )
    expect(implicit.data[0]?.embedding).toHaveLength(32)
  })
})

describe('shutdown', () => {
  test('lets running requests end, then accepts none', async () => {
    const { engine, server, client } = await open('text-generation', 'gpt2')
    const request = { model: 'gpt2', prompt: PROMPT, max_tokens: 60, temperature: 0 }
    const running = client.completions.create(request)
    const streamed = await client.completions.create({ ...request, stream: true })
    const closing = server.close()
    let text = ''
    for await (const { choices } of streamed) text += choices[0]?.text ?? ''
    expect(text).toBe((await running).choices[0]?.text)
    await closing
    await server.close()
    expect(engine.isReady).toBe(false)
    expect(await caught(fetch(`${server.url}/health`))).toBeInstanceOf(TypeError)
  })
  test('does not wait for idle connections', async () => {
    const { server } = await open('text-classification', 'bert')
    // fetch keeps its connection open for the next request.
    await (await fetch(`${server.url}/health`)).text()
    await server.close()
  })
  test('a port that is taken is an error', async () => {
    const { engine, server } = await open('text-classification', 'bert')
    const port = Number(new URL(server.url).port)
    await expect(listen(engine, { port, logger: false })).rejects.toMatchObject({ code: 'EADDRINUSE' })
    await server.close()
  })
})
