/** What the APIs share: the variables of a request, its body and its adapter. */
import type { Context } from 'hono'
import { parseModelName } from '../adapter-name.js'
import type { Engine } from '../engine.js'
import { ServerError } from '../errors.js'
import type { Logger } from '../log.js'
import type { Metrics } from '../metrics.js'
import type { EmbeddingOptions } from './openai/embeddings.js'

/** The variables of a request, for hono's `c.get` and `c.set`. */
export interface RequestVariables {
  /** Safe to be written to logs and headers. */
  readonly requestId: string
  /** Aborted if the client has gone (`ClientGoneError`) or the time is over (`ServerError` `deadline_exceeded`). For `engine.call`. */
  readonly signal: AbortSignal
  /** The name of the API in the metrics: `embeddings`, `v2_infer`. A constant of the code, never a part of the URL. */
  api: string
  /** The adapter, for the log. `adapterOf` sets it. */
  adapter: string | null
  /** The error that the answer reports, for the log. */
  error: unknown
  /** Settles at the end of a streamed answer, with the status for logs and metrics. The request counts as running until then. */
  finished: Promise<number> | undefined
}

/** The kind of all hono apps here: `new Hono<ServerEnv>()`. */
export interface ServerEnv {
  Variables: RequestVariables
}

export type RequestContext = Context<ServerEnv>

/** What the handler gives each API beside the engine. */
export interface ApiContext {
  readonly logger: Logger
  readonly metrics: Metrics
  readonly maxBodyBytes: number
  readonly embedding: EmbeddingOptions
}

/** The client has closed the connection before it had its answer. */
export class ClientGoneError extends Error {
  override readonly name = 'ClientGoneError'
  constructor() {
    super('the client has closed the connection')
  }
}

/**
 * Returns the adapter that a request's `model` names (null is the base model), and notes it for the log.
 *
 * @throws {ServerError} `model_not_found` if the name is neither the model's nor one that an adapter can have
 */
export function adapterOf(c: RequestContext, engine: Engine, name: string): string | null {
  const adapter = parseModelName(name, engine.model)
  c.set('adapter', adapter)
  return adapter
}

/**
 * Reads the body of a request. Stops as soon as it is longer than `maxBytes`, whatever `Content-Length` says.
 *
 * @throws {ServerError} `body_too_large`; the signal's reason if it is aborted
 */
export async function readBody(c: RequestContext, maxBytes: number): Promise<Uint8Array<ArrayBuffer>> {
  const signal = c.get('signal')
  const tooLarge = () => new ServerError('body_too_large', `the body is larger than ${maxBytes} bytes`)
  if (Number(c.req.header('content-length') ?? 0) > maxBytes) throw tooLarge()
  const reader = c.req.raw.body?.getReader()
  if (reader === undefined) return new Uint8Array()
  const stop = () => void reader.cancel(signal.reason).catch(() => {})
  signal.addEventListener('abort', stop, { once: true })
  try {
    const chunks: Uint8Array[] = []
    let length = 0
    for (;;) {
      signal.throwIfAborted()
      // A body that ends too early is that of a client that has gone.
      const { done, value } = await reader.read().catch(() => {
        throw new ClientGoneError()
      })
      signal.throwIfAborted()
      if (done) break
      length += value.length
      if (length > maxBytes) {
        stop()
        throw tooLarge()
      }
      chunks.push(value)
    }
    const body = new Uint8Array(length)
    let offset = 0
    for (const chunk of chunks) {
      body.set(chunk, offset)
      offset += chunk.length
    }
    return body
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

/**
 * Reads a body of JSON.
 *
 * @throws {ServerError} `invalid_value` if it is not JSON in UTF-8; as `readBody`
 */
export async function readJson(c: RequestContext, maxBytes: number): Promise<unknown> {
  const body = await readBody(c, maxBytes)
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
  } catch {
    // The message of the parser would quote the body.
    throw new ServerError('invalid_value', 'the body is not valid JSON in UTF-8')
  }
}
