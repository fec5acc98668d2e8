/** `createHandler`: all APIs as one function of the web's kind, `(request) => Promise<Response>`. */
import { createHash, timingSafeEqual } from 'node:crypto'
import { Hono } from 'hono'
import { cors } from 'hono/cors'
import { describeError, errorBody, errorHeaders } from './api-error.js'
import { type ApiContext, ClientGoneError, type RequestContext, type ServerEnv } from './apis/context.js'
import { openInference } from './apis/open-inference/index.js'
import type { EmbeddingOptions } from './apis/openai/embeddings.js'
import { openai } from './apis/openai/index.js'
import { loadAdapter, unloadAdapter } from './apis/openai/load-adapters.js'
import { tasks } from './apis/tasks.js'
import type { Engine } from './engine.js'
import { ServerError } from './errors.js'
import { describeForLog, type Logger, openLogger } from './log.js'
import { Metrics } from './metrics.js'
import { page } from './page/page.js'

export interface HandlerOptions {
  /** Clients have to send one of these as `Authorization: Bearer …`. Health checks stay open. Default: none is needed. */
  readonly apiKey?: string | readonly string[]
  /** Enables the loading and unloading of adapters over HTTP, for clients that send this as `Authorization: Bearer …`. */
  readonly adminToken?: string
  /** Origins whose pages may call the APIs, or `*`. Default: none. */
  readonly cors?: string | readonly string[]
  /** Largest body of a request. Default: 4 MiB. */
  readonly maxBodyBytes?: number
  /** Requests at a time, of all paths but those of probes, `/metrics` and the page; further ones get 429 before their bodies are read. Default: 1024. */
  readonly maxRequests?: number | undefined
  /** Milliseconds until a request ends with 504. Default: 60,000. */
  readonly timeout?: number
  /** An object like pino's, or `false`. Default: pino, JSON on stdout. */
  readonly logger?: Logger | false
  /** Default: new ones. Share them with the engine, so that `/metrics` has both. */
  readonly metrics?: Metrics
  /** Whether `/metrics` needs no key. Default: false. */
  readonly openMetrics?: boolean
  /** How `/v1/embeddings` makes a vector of the tokens'. Default: their mean, with the length 1, as most sentence encoders. */
  readonly embedding?: EmbeddingOptions
  /** A path that all routes begin with: `/ai`. */
  readonly basePath?: string
}

export type Handler = (request: Request) => Promise<Response>

const MAX_BODY_BYTES = 4 * 2 ** 20
const TIMEOUT = 60_000
const MAX_REQUESTS = 1024
/** What must be answered when everything else is not: probes, metrics, and the page, which is constant. */
const UNLIMITED: ReadonlySet<string> = new Set([
  '',
  '/',
  '/health',
  '/health/ready',
  '/metrics',
  '/v2/health/live',
  '/v2/health/ready',
])
/** Ids of clients are repeated in logs and headers only if they look like this. */
const SAFE_ID = /^[A-Za-z0-9._:-]{1,128}$/

/**
 * Creates the handler.
 *
 * @throws {TypeError} for options of wrong values
 */
export function createHandler(engine: Engine, options: HandlerOptions = {}): Handler {
  const { basePath = '', timeout = TIMEOUT, maxBodyBytes = MAX_BODY_BYTES, adminToken } = options
  checkOptions(options)
  const logger = openLogger(options.logger)
  const metrics = options.metrics ?? new Metrics()
  const context: ApiContext = { logger, metrics, maxBodyBytes, embedding: options.embedding ?? {} }
  const keys = [options.apiKey ?? []].flat()
  const app = new Hono<ServerEnv>({ strict: false }).basePath(basePath)
  const { maxRequests = MAX_REQUESTS } = options
  const pathOf = (c: RequestContext) => c.req.path.slice(basePath.length)
  let requests = 0

  app.use(async (c, next) => {
    const request = c.req.raw
    const begin = performance.now()
    const id = c.req.header('x-request-id') ?? ''
    const requestId = SAFE_ID.test(id) ? id : crypto.randomUUID()
    const controller = new AbortController()
    const onGone = () => controller.abort(new ClientGoneError())
    const timer = setTimeout(
      () =>
        controller.abort(new ServerError('deadline_exceeded', `the request took longer than ${timeout} ms`)),
      timeout,
    )
    if (request.signal.aborted) onGone()
    request.signal.addEventListener('abort', onGone, { once: true })
    c.set('requestId', requestId)
    c.set('signal', controller.signal)
    c.set('api', 'other')
    c.set('adapter', null)
    c.set('error', undefined)
    c.set('finished', undefined)
    metrics.requestsInFlight.inc()
    requests++

    const finish = (status: number) => {
      clearTimeout(timer)
      request.signal.removeEventListener('abort', onGone)
      metrics.requestsInFlight.dec()
      requests--
      const api = c.get('api')
      const ms = performance.now() - begin
      metrics.requests.inc({ api, status: String(status) })
      metrics.seconds.observe({ api }, ms / 1000)
      logRequest(logger, c, { requestId, api, status, ms: Math.round(ms * 10) / 10 })
    }
    try {
      await next()
    } catch (thrown) {
      // hono handles errors, but passes on whatever else is thrown.
      c.res = answerError(asError(thrown), c)
    } finally {
      const finished = c.get('finished')
      if (finished === undefined) finish(c.res.status)
      else void finished.then(finish, () => finish(500))
    }
    c.res.headers.set('x-request-id', requestId)
  })

  if (options.cors !== undefined) {
    const origin = options.cors === '*' ? '*' : [options.cors].flat()
    app.use(
      cors({
        origin,
        allowMethods: ['GET', 'POST'],
        exposeHeaders: ['x-request-id', 'retry-after'],
        maxAge: 600,
      }),
    )
  }

  app.use((c, next) => {
    if (requests <= maxRequests || UNLIMITED.has(pathOf(c))) return next()
    throw new ServerError('queue_full', `${maxRequests} requests are being answered; no more are accepted`, {
      retryAfter: 1,
    })
  })
  app.get('/', (c) => {
    c.set('api', 'page')
    return c.html(page.html, 200, page.headers)
  })
  app.get('/health', (c) => {
    c.set('api', 'health')
    return c.json({ status: 'ok' })
  })
  app.get('/health/ready', (c) => {
    c.set('api', 'health')
    return engine.isReady ? c.json({ status: 'ready' }) : c.json({ status: 'not ready' }, 503)
  })

  if (adminToken !== undefined) {
    app.use('/v1/load_lora_adapter', requireBearer([adminToken]))
    app.use('/v1/unload_lora_adapter', requireBearer([adminToken]))
    app.post('/v1/load_lora_adapter', (c) => loadAdapter(c, engine, context))
    app.post('/v1/unload_lora_adapter', (c) => unloadAdapter(c, engine, context))
  }

  if (keys.length > 0) {
    const check = requireBearer(keys)
    app.use((c, next) => {
      const path = pathOf(c)
      const isOpen = path.startsWith('/v2/health/') || (options.openMetrics === true && path === '/metrics')
      return isOpen ? next() : check(c, next)
    })
  }
  app.get('/metrics', async (c) => {
    c.set('api', 'metrics')
    return c.text(await metrics.register.metrics(), 200, { 'content-type': metrics.register.contentType })
  })
  app.route('/', openai(engine, context))
  app.route('/', tasks(engine, context))
  app.route('/', openInference(engine, context))

  const answerError = (error: unknown, c: RequestContext) => {
    c.set('error', error)
    const described = describeError(error, c.get('requestId'))
    // A Response cannot be made with a status that the Fetch standard does not allow; 499 is allowed.
    return Response.json(errorBody(described, pathOf(c)), {
      status: described.status,
      headers: errorHeaders(described),
    })
  }
  app.onError(answerError)
  app.notFound((c) => {
    const error = new ServerError('not_found', `there is no ${c.req.method} ${c.req.path}`)
    return answerError(error, c)
  })
  return async (request) => app.fetch(request)
}

/** Lets requests pass that have one of the tokens. Comparing digests takes the same time wherever they differ. */
function requireBearer(tokens: readonly string[]) {
  const digest = (text: string) => createHash('sha256').update(text).digest()
  const known = tokens.map(digest)
  return async (c: RequestContext, next: () => Promise<void>) => {
    const [, token = ''] = /^Bearer +(\S+) *$/i.exec(c.req.header('authorization') ?? '') ?? []
    const given = digest(token)
    const matches = known.map((one) => timingSafeEqual(one, given))
    if (!matches.includes(true)) {
      throw new ServerError(
        'invalid_api_key',
        'the API key is missing or wrong: send it as Authorization: Bearer KEY',
      )
    }
    await next()
  }
}

interface RequestSummary {
  readonly requestId: string
  readonly api: string
  readonly status: number
  readonly ms: number
}

const asError = (thrown: unknown): Error =>
  thrown instanceof Error ? thrown : new Error('a value that is no error was thrown', { cause: thrown })

/** Writes one line for a request. Errors of the server have their stack, those of clients their code; neither has contents. */
function logRequest(logger: Logger, c: RequestContext, summary: RequestSummary): void {
  const error = c.get('error')
  const adapter = c.get('adapter')
  const fields = { ...summary, method: c.req.method, ...(adapter !== null && { adapter }) }
  if (summary.status >= 500 && error !== undefined) {
    logger.error({ ...fields, err: describeForLog(error) }, 'request failed')
  } else if (error !== undefined) {
    logger.info({ ...fields, code: describeError(error, summary.requestId).code }, 'request rejected')
  } else {
    logger.info(fields, 'request')
  }
}

function checkOptions({
  apiKey,
  adminToken,
  timeout,
  maxBodyBytes,
  maxRequests,
  basePath,
}: HandlerOptions): void {
  const rule = (name: string, holds: boolean, expected: string) => {
    if (!holds) throw new TypeError(`${name}: expected ${expected}`)
  }
  const isToken = (token: string) => /^\S+$/.test(token)
  rule(
    'apiKey',
    apiKey === undefined || ([apiKey].flat().length > 0 && [apiKey].flat().every(isToken)),
    'keys without spaces',
  )
  rule('adminToken', adminToken === undefined || isToken(adminToken), 'a token without spaces')
  rule('timeout', timeout === undefined || (timeout > 0 && timeout < 2 ** 31), 'milliseconds, more than 0')
  rule('maxRequests', maxRequests === undefined || maxRequests > 0, 'a number of requests, more than 0')
  rule('maxBodyBytes', maxBodyBytes === undefined || maxBodyBytes > 0, 'bytes, more than 0')
  rule(
    'basePath',
    basePath === undefined || /^(\/[\w.~-]+)*$/.test(basePath),
    "a path such as '/ai', without a slash at its end",
  )
}
