/** The handler around the APIs: keys, limits, ids, logs, metrics, errors, and the page. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { get, post } from './__fixtures__/http.js'
import { MODELS, openSingleEngine, type SingleEngine } from './__fixtures__/single-engine.js'
import type { Engine } from './engine.js'
import { ServerError } from './errors.js'
import { createHandler, type HandlerOptions } from './handler.js'

let engine: SingleEngine
beforeAll(async () => {
  engine = await openSingleEngine('text-classification', 'bert')
})
afterAll(() => engine.close())

const CLASSIFY = '/v1/tasks/text-classification'
const QUESTION = { model: 'bert', inputs: 'the river runs' }
const SECRET = 'a secret text of a customer'

const quiet = (options: HandlerOptions = {}, other: Partial<Engine> = {}) =>
  createHandler(Object.create(engine, Object.getOwnPropertyDescriptors(other)), { logger: false, ...options })

/** A logger that keeps what it gets. */
function recorder() {
  const lines: Record<string, unknown>[] = []
  const add = (level: string) => (fields: object, message: string) => {
    lines.push({ level, message, ...fields })
  }
  return { lines, logger: { info: add('info'), warn: add('warn'), error: add('error') } }
}

const bearer = (token: string): RequestInit => ({ headers: { authorization: `Bearer ${token}` } })

describe('API keys', () => {
  const open = () => quiet({ apiKey: ['first-key', 'second-key'] })

  test.each([CLASSIFY, '/v1/chat/completions', '/v2/models/bert/infer', '/v1/nothing'])(
    '%s needs one',
    async (path) => {
      for (const init of [
        {},
        bearer('wrong'),
        bearer('first-key2'),
        { headers: { authorization: 'Basic first-key' } },
      ]) {
        const { status, json, headers } = await post(open(), path, QUESTION, init)
        expect([status, headers.get('www-authenticate')]).toEqual([401, 'Bearer'])
        // The Open Inference Protocol has errors of its own form.
        if (path.startsWith('/v2')) expect(json.error).toMatch(/^the API key is missing or wrong/)
        else expect(json.error).toMatchObject({ type: 'authentication_error', code: 'invalid_api_key' })
      }
    },
  )
  test('each of several keys is accepted', async () => {
    for (const key of ['first-key', 'second-key']) {
      expect((await post(open(), CLASSIFY, QUESTION, bearer(key))).status).toBe(200)
    }
  })
  test('health checks and the page need none; metrics only if asked for', async () => {
    const handler = open()
    for (const path of ['/health', '/health/ready', '/v2/health/live', '/v2/health/ready', '/']) {
      expect([path, (await get(handler, path)).status]).toEqual([path, 200])
    }
    expect((await get(handler, '/metrics')).status).toBe(401)
    expect((await get(quiet({ apiKey: 'k', openMetrics: true }), '/metrics')).status).toBe(200)
  })
  test('empty keys are rejected when the server starts', () => {
    expect(() => quiet({ apiKey: '' })).toThrow('apiKey')
    expect(() => quiet({ apiKey: [] })).toThrow('apiKey')
    expect(() => quiet({ adminToken: ' ' })).toThrow('adminToken')
    expect(() => quiet({ basePath: 'api/' })).toThrow('basePath')
    expect(() => quiet({ timeout: 0 })).toThrow('timeout')
  })
})

describe('loading of adapters', () => {
  const LOAD = '/v1/load_lora_adapter'
  const UNLOAD = '/v1/unload_lora_adapter'

  test('does not exist without a token', async () => {
    expect((await post(quiet(), LOAD, { lora_name: 'a', lora_path: 'b' })).status).toBe(404)
    expect((await post(quiet(), UNLOAD, { lora_name: 'a' })).status).toBe(404)
  })
  test('needs the token, not an API key', async () => {
    const handler = quiet({ adminToken: 'admin', apiKey: 'key' })
    const body = { lora_name: 'copy', lora_path: `${MODELS}bert/adapter-a` }
    expect((await post(handler, LOAD, body, bearer('key'))).status).toBe(401)
    expect((await post(handler, LOAD, body, bearer('admin'))).status).toBe(200)
    const ask = (model: string) => post(handler, CLASSIFY, { ...QUESTION, model }, bearer('key'))
    expect((await ask('copy')).json).toEqual((await ask('adapter-a')).json)
    expect((await post(handler, UNLOAD, { lora_name: 'copy' }, bearer('admin'))).status).toBe(200)
    expect((await ask('copy')).json.error.code).toBe('model_not_found')
  })
  test('accepts names only', async () => {
    const handler = quiet({ adminToken: 'admin' })
    for (const lora_name of ['../x', '', '.hidden', 'a/b', 5]) {
      const { status, json } = await post(handler, LOAD, { lora_name, lora_path: 'x' }, bearer('admin'))
      expect([status, json.error.param]).toEqual([400, 'lora_name'])
    }
  })
})

describe('limits', () => {
  test('a body that claims to be too large is not read', async () => {
    const { status, json } = await post(quiet({ maxBodyBytes: 1000 }), CLASSIFY, 'x'.repeat(1001))
    expect([status, json.error.code]).toEqual([413, 'body_too_large'])
  })
  test('a streamed body is read up to the limit only', async () => {
    let sent = 0
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        sent += 1000
        controller.enqueue(new Uint8Array(1000))
      },
    })
    const init = { body, duplex: 'half' } as RequestInit
    const { status } = await post(quiet({ maxBodyBytes: 10_000 }), CLASSIFY, '', init)
    expect(status).toBe(413)
    expect(sent).toBeLessThan(20_000)
  })
  test.each(['', '{', '[1]', 'null', '"text"', '\ud800'])('the body %j is a 400', async (body) => {
    const { status, json } = await post(quiet(), CLASSIFY, body)
    expect([status, json.error.code]).toEqual([400, 'invalid_value'])
  })
  test('a request that takes too long is a 504, and its work is aborted', async () => {
    let given: AbortSignal | undefined
    const call: Engine['call'] = (_, __, { signal }) => {
      given = signal
      return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
    }
    const { status, json } = await post(quiet({ timeout: 20 }, { call }), CLASSIFY, QUESTION)
    expect([status, json.error.code, given?.aborted]).toEqual([504, 'deadline_exceeded', true])
  })
  test('a body that never ends is a 504', async () => {
    const init = { body: new ReadableStream(), duplex: 'half' } as RequestInit
    expect((await post(quiet({ timeout: 20 }), CLASSIFY, '', init)).status).toBe(504)
  })
  test('a full queue says when to try again', async () => {
    const call = () => Promise.reject(new ServerError('queue_full', 'the queue is full', { retryAfter: 2.2 }))
    const { status, headers, json } = await post(quiet({}, { call }), CLASSIFY, QUESTION)
    expect([status, headers.get('retry-after'), json.error.type]).toEqual([429, '3', 'rate_limit_error'])
  })
})

describe('a value that is no error', () => {
  test.each(['a text', undefined, null, { a: 1 }])('%j is a 500, and its request ends', async (thrown) => {
    const { lines, logger } = recorder()
    const handler = quiet(
      { logger, maxRequests: 1 },
      { call: () => Promise.reject(thrown), list: () => Promise.reject(thrown) },
    )
    for (const path of [CLASSIFY, CLASSIFY, '/v2/repository/index']) {
      const { status, headers } = await post(handler, path, path === CLASSIFY ? QUESTION : '')
      expect([status, headers.has('x-request-id')]).toEqual([500, true])
    }
    expect(lines.map(({ level, status }) => [level, status])).toEqual(new Array(3).fill(['error', 500]))
    expect((await get(handler, '/metrics')).text).toContain('fourierft_requests_in_flight 1')
  })
})

test('the number of requests is bounded for all paths but those of probes', async () => {
  let end = () => {}
  const ended = new Promise<void>((resolve) => {
    end = resolve
  })
  const handler = quiet({ maxRequests: 2 }, { prepare: () => ended })
  const first = [0, 1].map((i) => get(handler, `/v2/models/adapter-${i}/ready`))
  for (const path of ['/v2/models/more/ready', '/v1/models', '/v1/models/more', '/v2/models/bert'])
    expect([path, (await get(handler, path)).status]).toEqual([path, 429])
  expect((await post(handler, CLASSIFY, QUESTION)).status).toBe(429)
  for (const path of ['/health', '/health/ready', '/v2/health/live', '/v2/health/ready', '/metrics', '/'])
    expect([path, (await get(handler, path)).status]).toEqual([path, 200])
  end()
  expect((await Promise.all(first)).map(({ status }) => status)).toEqual([200, 200])
  expect((await get(handler, '/v1/models')).status).toBe(200)
})

test('a model that is not listed is retrieved if it can be loaded', async () => {
  const handler = quiet({}, { list: async () => [] })
  expect((await get(handler, '/v1/models/adapter-a')).json).toMatchObject({ id: 'adapter-a', parent: 'bert' })
  expect((await get(handler, '/v1/models/nobody')).status).toBe(404)
})

describe('logs and metrics', () => {
  test('a line for each request, with the adapter and without contents', async () => {
    const { lines, logger } = recorder()
    const handler = quiet({ logger })
    await post(
      handler,
      CLASSIFY,
      { model: 'bert:adapter-a', inputs: SECRET },
      { headers: { 'x-request-id': 'id-1' } },
    )
    await post(handler, CLASSIFY, { model: 'bert', inputs: SECRET, parameters: { top_k: SECRET } })
    await post(handler, CLASSIFY, `{"inputs": "${SECRET}`)
    expect(lines).toMatchObject([
      {
        level: 'info',
        message: 'request',
        requestId: 'id-1',
        api: 'tasks',
        method: 'POST',
        status: 200,
        adapter: 'adapter-a',
      },
      { level: 'info', message: 'request rejected', status: 400, code: 'invalid_value' },
      { level: 'info', status: 400 },
    ])
    expect(JSON.stringify(lines)).not.toContain('secret')
  })
  test('ids of clients are returned if they are safe, else replaced', async () => {
    const idFor = async (id: string) =>
      (await get(quiet(), '/health', { headers: { 'x-request-id': id } })).headers.get('x-request-id')
    expect(await idFor('abc-1.2:3_4')).toBe('abc-1.2:3_4')
    for (const id of ['', 'a b', 'x'.repeat(129), '"}']) expect(await idFor(id)).toMatch(/^[0-9a-f-]{36}$/)
  })
  test('an unknown error is a 500 without internals, whose id leads to the log', async () => {
    const { lines, logger } = recorder()
    const call = () => Promise.reject(new Error('/etc/passwd is missing', { cause: new TypeError('inner') }))
    const { status, json, text } = await post(quiet({ logger }, { call }), CLASSIFY, QUESTION)
    expect([status, json.error.type, json.error.code]).toEqual([500, 'server_error', 'internal_error'])
    expect(text).not.toContain('passwd')
    // The message of an unknown error can hold contents.
    expect(JSON.stringify(lines)).not.toContain('passwd')
    const [line] = lines
    expect(json.error.message).toContain(line?.requestId)
    expect(line).toMatchObject({ level: 'error', err: { name: 'Error', cause: { name: 'TypeError' } } })
    expect(JSON.stringify(line)).toContain('handler.test.ts')
  })
  test('requests are counted by API and status, never by names of strangers', async () => {
    const handler = quiet()
    await post(handler, CLASSIFY, QUESTION)
    await post(handler, CLASSIFY, { ...QUESTION, model: 'adapter-a' })
    await post(handler, CLASSIFY, { ...QUESTION, model: 'stranger' })
    await get(handler, '/stranger')
    const { text } = await get(handler, '/metrics')
    expect(text).toContain('fourierft_requests_total{api="tasks",status="200"} 2')
    expect(text).toContain('fourierft_requests_total{api="tasks",status="404"} 1')
    expect(text).toContain('fourierft_requests_total{api="other",status="404"} 1')
    expect(text).toContain('fourierft_request_seconds_count{api="tasks"} 3')
    expect(text).toContain('fourierft_requests_in_flight 1')
    expect(text).not.toMatch(/stranger|adapter-a/)
  })
  test('a client that has gone is a 499', async () => {
    const { lines, logger } = recorder()
    const client = new AbortController()
    const call: Engine['call'] = (_, __, { signal }) => {
      client.abort()
      return Promise.reject(signal.reason)
    }
    await post(quiet({ logger }, { call }), CLASSIFY, QUESTION, { signal: client.signal })
    expect(lines).toMatchObject([{ level: 'info', status: 499 }])
  })
})

test('other pages may call only if their origin is allowed', async () => {
  const from = (origin: string): RequestInit => ({ headers: { origin } })
  const allowed = async (options: HandlerOptions, origin: string) =>
    (await get(quiet(options), '/v1/models', from(origin))).headers.get('access-control-allow-origin')
  expect(await allowed({}, 'https://a.example')).toBeNull()
  expect(await allowed({ cors: 'https://a.example' }, 'https://a.example')).toBe('https://a.example')
  expect(await allowed({ cors: ['https://a.example'] }, 'https://b.example')).toBeNull()
  expect(await allowed({ cors: '*' }, 'https://b.example')).toBe('*')
  const preflight = await get(quiet({ cors: '*', apiKey: 'k' }), CLASSIFY, {
    method: 'OPTIONS',
    headers: {
      origin: 'https://a.example',
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'authorization',
    },
  })
  expect([preflight.status, preflight.headers.get('access-control-allow-headers')]).toEqual([
    204,
    'authorization',
  ])
})

test('a path for all routes', async () => {
  const handler = quiet({ basePath: '/ai', apiKey: 'k' })
  expect((await get(handler, '/ai/v1/models', bearer('k'))).status).toBe(200)
  expect((await get(handler, '/ai/v2/health/live')).status).toBe(200)
  expect((await get(handler, '/ai/')).status).toBe(200)
  expect((await get(handler, '/v1/models', bearer('k'))).status).toBe(404)
})

test('what does not exist is a 404 in the form of the API', async () => {
  for (const [path, method] of [
    ['/nothing', 'GET'],
    ['/v1/embeddings', 'GET'],
    ['/v1/models', 'DELETE'],
  ] as const) {
    const { status, json } = await get(quiet(), path, { method })
    expect([status, json.error.code]).toEqual([404, 'not_found'])
  }
})

test('readiness follows the engine', async () => {
  const status = async (isReady: boolean) =>
    (await get(quiet({}, { isReady } as Partial<Engine>), '/health/ready')).status
  expect([await status(true), await status(false)]).toEqual([200, 503])
})

test('the page allows its own script and nothing else', async () => {
  const { headers, text } = await get(quiet(), '/')
  expect(headers.get('content-type')).toContain('text/html')
  expect(headers.get('content-security-policy')).toMatch(
    /^default-src 'none'; script-src 'sha256-[^']+'; style-src 'sha256-/,
  )
  expect(text).not.toMatch(/(src|href)="(https?:)?\/\//)
})
