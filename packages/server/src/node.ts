/** `listen`: puts the handler on Node's HTTP server, and ends it without losing requests. */
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createAdaptorServer } from '@hono/node-server'
import type { Engine } from './engine.js'
import { createHandler, type HandlerOptions } from './handler.js'

export interface ListenOptions extends HandlerOptions {
  /** 0: a free one. Default: 8000. */
  readonly port?: number
  /** The address to listen on; `0.0.0.0` for all networks. Default: `127.0.0.1`, this machine only. */
  readonly host?: string
  /** Connections at a time; further ones are closed at once. Default: 10,000. */
  readonly maxConnections?: number
  /** Milliseconds that `close` waits for running requests. Default: 30,000. */
  readonly gracePeriod?: number
}

export interface RunningServer {
  /** With the port that was taken. */
  readonly url: string
  /** Stops accepting connections, lets running requests end, and closes the engine. Can be called again. */
  close(): Promise<void>
}

/** Milliseconds for the headers of a request, and for all of it: slow senders would hold connections. */
const HEADERS_TIMEOUT = 15_000
const REQUEST_TIMEOUT = 60_000
/** Longer than load balancers keep idle connections, which is a minute in most, so that none is closed while a request is on its way. */
const KEEP_ALIVE_TIMEOUT = 65_000
/** `close` stops listening when no connection has arrived for this time, in milliseconds, but not later than after the second one. */
const QUIET_MS = 100
const MOST_QUIET_MS = 2000
/** How often `close` looks for connections that have become idle. */
const IDLE_INTERVAL = 20

/** @throws what Node's server throws if the port is taken */
export async function listen(engine: Engine, options: ListenOptions = {}): Promise<RunningServer> {
  const { port = 8000, host = '127.0.0.1', maxConnections = 10_000, gracePeriod = 30_000 } = options
  const server = createAdaptorServer({
    fetch: createHandler(engine, options),
    serverOptions: {
      headersTimeout: HEADERS_TIMEOUT,
      requestTimeout: REQUEST_TIMEOUT,
      keepAliveTimeout: KEEP_ALIVE_TIMEOUT,
    },
  }) as Server
  server.maxConnections = maxConnections
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => {
      server.off('error', reject)
      resolve()
    })
  })
  const { address, port: taken, family } = server.address() as AddressInfo
  const name =
    address === '0.0.0.0' || address === '::' ? 'localhost' : family === 'IPv6' ? `[${address}]` : address

  let closing: Promise<void> | undefined
  let lastConnection = 0
  server.on('connection', () => {
    lastConnection = performance.now()
  })
  const close = async () => {
    const ended = engine.close(gracePeriod)
    // It is awaited later.
    ended.catch(() => undefined)
    // Connections that the system has accepted, but Node has not, would be reset. They get 503.
    const start = performance.now()
    while (
      performance.now() - Math.max(lastConnection, start) < QUIET_MS &&
      performance.now() - start < MOST_QUIET_MS
    )
      await new Promise((resolve) => setTimeout(resolve, IDLE_INTERVAL))
    const closed = new Promise<void>((resolve) => server.close(() => resolve()))
    const idle = setInterval(() => server.closeIdleConnections(), IDLE_INTERVAL)
    const late = setTimeout(() => server.closeAllConnections(), gracePeriod)
    try {
      await ended
      await closed
    } finally {
      clearInterval(idle)
      clearTimeout(late)
    }
  }
  return {
    url: `http://${name}:${taken}${options.basePath ?? ''}`,
    close: () => (closing ??= close()),
  }
}
