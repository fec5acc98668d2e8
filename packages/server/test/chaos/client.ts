/** `Client`: sends HTTP requests over connections that stay open, gives them up at a given time, and never waits forever. */
import { Agent, type IncomingHttpHeaders, request } from 'node:http'

export interface Sending {
  readonly method: 'GET' | 'POST'
  /** Sent as it is: not normalised. */
  readonly path: string
  readonly body?: string | Uint8Array | undefined
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** Sends the body in chunks, without its length. */
  readonly isChunked?: boolean | undefined
  /** Milliseconds after which the client closes the connection. */
  readonly abortAfter?: number | undefined
}

export interface Received {
  /** `reset`: the server closed the connection, or accepted none. `hung`: no answer after a long time. */
  readonly outcome: 'answer' | 'aborted' | 'reset' | 'hung'
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
  /** Times at which the request began and its answer ended, in milliseconds of `performance.now`. */
  readonly begin: number
  readonly end: number
  readonly error?: string
  /** Statuses of the earlier answers on the same connection. */
  readonly earlier: readonly number[]
}

/** Well over the server's own deadline. */
const HANG_MS = 90_000

export class Client {
  /** Statuses of the answers on each connection. */
  readonly #statuses = new WeakMap<object, number[]>()
  readonly #agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY })

  send(url: string, { method, path, body, headers, isChunked, abortAfter }: Sending): Promise<Received> {
    const { hostname, port } = new URL(url)
    const begin = performance.now()
    return new Promise((resolve) => {
      let outcome: Received['outcome'] = 'reset'
      let status = 0
      let statuses: number[] = []
      let earlier: readonly number[] = []
      let received: IncomingHttpHeaders = {}
      const chunks: Buffer[] = []
      const timers: NodeJS.Timeout[] = []
      const settle = (error?: Error) => {
        for (const timer of timers) clearTimeout(timer)
        const text = Buffer.concat(chunks).toString()
        const end = performance.now()
        resolve({
          outcome,
          status,
          headers: received,
          text,
          begin,
          end,
          earlier,
          ...(error && { error: String(error) }),
        })
      }
      const length = body === undefined || isChunked ? {} : { 'content-length': Buffer.byteLength(body) }
      const call = request({
        agent: this.#agent,
        hostname,
        port,
        method,
        path,
        headers: { 'content-type': 'application/json', ...length, ...headers },
      })
      const give = (as: 'aborted' | 'hung') => () => {
        outcome = as
        call.destroy(new Error(as))
      }
      timers.push(setTimeout(give('hung'), HANG_MS))
      if (abortAfter !== undefined) timers.push(setTimeout(give('aborted'), abortAfter))
      call.on('socket', (socket) => {
        const known = this.#statuses.get(socket)
        // A request that has ended does not hear that the rest of its body could not be sent.
        if (known === undefined) socket.on('error', () => {})
        statuses = known ?? []
        this.#statuses.set(socket, statuses)
        earlier = [...statuses]
      })
      call.on('response', (response) => {
        status = response.statusCode ?? 0
        statuses.push(status)
        received = response.headers
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('end', () => {
          if (outcome === 'reset') outcome = 'answer'
          settle()
        })
        response.on('error', settle)
      })
      call.on('error', settle)
      if (body !== undefined) call.write(body)
      call.end()
    })
  }

  /** Closes the connections. */
  close(): void {
    this.#agent.destroy()
  }
}
