/**
 * Sends requests for embeddings to a server. As a program it sends one load, and prints what it measured: a process of its own, so that the clients do
 * not slow the server's event loop down.
 */
import { Agent, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import autocannon, { type Options, type Result } from 'autocannon'
import { text } from './model-folders.js'

/** What the requests of a load contain. Loads with the same `first` have the same texts in the same order. */
export interface Requests {
  readonly url: string
  /** The number of the first request. */
  readonly first: number
  /** The number of adapters that the requests name in turn, `a0`, `a1`, …; 0: they name the base model. */
  readonly adapters: number
  /** The fewest and the most words of a text. */
  readonly words: readonly [fewest: number, most: number]
}

/** A number of clients, each of which sends its next request when it has received its last answer. */
export interface ClosedLoad extends Requests {
  readonly kind: 'closed'
  readonly clients: number
  /** A multiple of `clients`. */
  readonly count: number
}

/** Requests at random times, whether or not earlier ones were answered. */
export interface OpenLoad extends Requests {
  readonly kind: 'open'
  /** Requests per second: the mean of a Poisson process. */
  readonly rate: number
  readonly count: number
}

/** One request at a time: for each new adapter its first request, a request with another adapter, and a later request with the new adapter. */
export interface FirstUses {
  readonly kind: 'first uses'
  readonly url: string
  readonly names: readonly string[]
  readonly words: number
}

export type Load = ClosedLoad | OpenLoad | FirstUses

/** Milliseconds. `elapsed` is the time from the first request to the last answer. */
export interface LoadTimes {
  readonly elapsed: number
  readonly latencies: readonly number[]
}

/** Milliseconds, one for each new adapter. */
export interface FirstUseTimes {
  readonly first: readonly number[]
  readonly later: readonly number[]
}

/** The name of the base model on all servers. */
export const BASE = 'base'
/** Seconds after which autocannon gives a request up. */
const TIMEOUT = 120
const HEADERS = { 'content-type': 'application/json' }
const PATH = '/v1/embeddings'

/**
 * Sends a load of autocannon. Of requests that are in flight at the same time, each has another adapter, if `adapters` is a multiple of `clients`.
 *
 * @throws {Error} if an answer is not 200
 */
async function sendClosed({ url, clients, count, ...requests }: ClosedLoad): Promise<LoadTimes> {
  const latencies: number[] = []
  let client = 0
  let end = 0
  const start = performance.now()
  const options: Options = {
    url,
    connections: clients,
    amount: count,
    timeout: TIMEOUT,
    // autocannon notices the end of a load only at the end of a sample.
    sampleInt: 50,
    setupClient: (connection) => {
      const offset = client++
      const ofClient = Array.from({ length: count / clients }, (_, turn) => ({
        method: 'POST' as const,
        path: PATH,
        headers: HEADERS,
        body: bodyOf(requests, turn * clients + offset),
      }))
      connection.setRequests(ofClient)
    },
  }
  const { errors, non2xx } = await new Promise<Result>((resolve, reject) => {
    const running = autocannon(options, (error, result) => (error ? reject(error) : resolve(result)))
    running.on('response', (_client, _status, _bytes, milliseconds) => {
      latencies.push(milliseconds)
      end = performance.now()
    })
  })
  if (errors > 0 || non2xx > 0 || latencies.length !== count)
    throw new Error(`of ${count} requests, ${errors} failed, and ${non2xx} had an answer that is not 2xx`)
  return { elapsed: end - start, latencies }
}

async function sendOpen({ url, rate, count, ...requests }: OpenLoad): Promise<LoadTimes> {
  const agent = new Agent({ keepAlive: true })
  const bodies = Array.from({ length: count }, (_, i) => bodyOf(requests, i))
  const start = performance.now()
  let due = start
  const answers: Promise<number>[] = []
  for (const [i, body] of bodies.entries()) {
    due += (-Math.log(1 - uniform(requests.first + i, 1)) / rate) * 1000
    await sleep(Math.max(0, due - performance.now()))
    // A late timer must not hide the time that the request should have waited.
    const sent = due
    answers.push(post(url, body, agent).then(() => performance.now() - sent))
  }
  const latencies = await Promise.all(answers)
  agent.destroy()
  return { elapsed: performance.now() - start, latencies }
}

async function sendFirstUses({ url, names, words }: FirstUses): Promise<FirstUseTimes> {
  const agent = new Agent({ keepAlive: true })
  const time = async (model: string, seed: number) => {
    const body = JSON.stringify({ model, input: text(words, seed), encoding_format: 'base64' })
    const start = performance.now()
    await post(url, body, agent)
    return performance.now() - start
  }
  const first: number[] = []
  const later: number[] = []
  for (const [i, name] of names.entries()) {
    await time('a0', i)
    first.push(await time(name, i))
    await time('a0', i)
    later.push(await time(name, i))
  }
  agent.destroy()
  return { first, later }
}

/** The body of a request as the official client of OpenAI sends it, which asks for base64. */
function bodyOf({ first, adapters, words: [fewest, most] }: Omit<Requests, 'url'>, index: number): string {
  const number = first + index
  const words = fewest + Math.floor(uniform(number, 0) * (most - fewest + 1))
  return JSON.stringify({
    model: adapters > 0 ? `a${number % adapters}` : BASE,
    input: text(words, number),
    encoding_format: 'base64',
  })
}

/** @returns a number in [0, 1) that looks random, always the same one for a number and a stream */
function uniform(number: number, stream: number): number {
  let bits = Math.imul(number + 1, 0x9e3779b1) ^ Math.imul(stream + 1, 0x85ebca6b)
  bits = Math.imul(bits ^ (bits >>> 16), 0x7feb352d)
  bits = Math.imul(bits ^ (bits >>> 15), 0x846ca68b)
  return ((bits ^ (bits >>> 16)) >>> 0) / 2 ** 32
}

/** @throws {Error} if the answer is not 200 */
function post(url: string, body: string, agent: Agent): Promise<void> {
  return new Promise((resolve, reject) => {
    const headers = { ...HEADERS, 'content-length': Buffer.byteLength(body) }
    const sent = request(url + PATH, { method: 'POST', agent, headers }, (response) => {
      response.on('error', reject)
      response.on('end', () => {
        if (response.statusCode === 200) resolve()
        else reject(new Error(`expected 200; received ${response.statusCode}`))
      })
      response.resume()
    })
    sent.on('error', reject)
    sent.end(body)
  })
}

function send(load: Load): Promise<LoadTimes | FirstUseTimes> {
  if (load.kind === 'closed') return sendClosed(load)
  return load.kind === 'open' ? sendOpen(load) : sendFirstUses(load)
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  console.log(JSON.stringify(await send(JSON.parse(process.argv[2]) as Load)))
