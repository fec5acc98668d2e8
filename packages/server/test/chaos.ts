/**
 * The load under which the server must give no wrong answer, lose no request and leak nothing: many connections, thousands of adapters whose files
 * change, are cut off, attack the server and disappear, clients that give up, and bad requests. `chaos.test.ts` runs it for some seconds,
 * `chaos.slow.test.ts` for minutes.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { env, LogLevel } from '@huggingface/transformers'
import { type Child, openChild } from './chaos/child.js'
import { Client, type Received } from './chaos/client.js'
import { AdapterFolder } from './chaos/folder.js'
import { answersAlone, isSame, type Need, needId, readTokens } from './chaos/oracle.js'
import { Random } from './chaos/random.js'
import {
  type Answer,
  badRequest,
  type ChaosRequest,
  rightRequest,
  SECRET,
  type Tokens,
} from './chaos/requests.js'
import type { Measured } from './chaos/server.js'
import {
  type Content,
  kindsOf,
  MODEL_NAMES,
  MODELS,
  type ModelName,
  type Population,
} from './chaos/versions.js'

const FIXTURES = fileURLToPath(new URL('../../transformers/test/__fixtures__/', import.meta.url))
const CONNECTIONS = 200
/** Bytes for adapters in memory: room for a tenth of them, so that adapters leave all the time. */
const MEMORY = { bert: 300_000, roberta: 60_000, gpt2: 60_000 } as const
/** The server's own time for running requests when it closes. */
const GRACE_MS = 30_000
/** Kinds that most requests ask for while there are too few graphs. */
const CROWDED_KINDS = 5
/** How often requests go to each model. */
const SHARES = [
  ['bert', 60],
  ['roberta', 25],
  ['gpt2', 15],
] as const

export interface ChaosOptions {
  /** Every random choice follows from it. The order in which requests and changes meet does not. */
  readonly seed: number
  /** Adapters of the classifier, and seeds of their entries. */
  readonly population: Population
  /** Seconds of load with room for every kind of adapter, after the warm-up. */
  readonly seconds: number
  /** Seconds of load with too few graphs and a short queue. */
  readonly crowdedSeconds: number
}

/** A request and what came of it. */
interface Sent {
  readonly phase: Phase
  readonly model: ModelName
  readonly url: string
  readonly request: ChaosRequest
  readonly received: Omit<Received, 'text' | 'headers'>
  readonly retryAfter: string | undefined
  /** Of right requests with the status 200. */
  readonly answers: readonly Answer[]
  /** What is wrong, whatever the folder contained. */
  readonly problem: string | undefined
  /** A short part of the body of an error, for messages. */
  readonly error: string
  /** Worker and number of the request. */
  readonly id: string
}

type Phase = 'warm' | 'load' | 'crowded' | 'closing'

export interface ChaosReport {
  readonly requests: number
  /** Of right requests, by status or outcome, and by phase. */
  readonly outcomes: Readonly<Record<string, number>>
  readonly changes: Readonly<Record<string, number>>
  /** Right answers that were compared with the adapter alone. */
  readonly compared: number
  /** Of these: texts that were not compared to the end, because a token was chosen by less than the tolerance. */
  readonly ties: number
  /** Pairs of versions of one adapter that were both asked the same, and those whose answers differ. */
  readonly versionPairs: number
  readonly distinctPairs: number
  readonly evictions: number
  /** Of the classifier while there was room for every kind of adapter. */
  readonly rowsPerBatch: number
  /** After the warm-up, and at the end of each round of load, when nothing runs. */
  readonly measured: readonly (Measured & { readonly requests: number })[]
  /** Everything that must not be. */
  readonly problems: readonly string[]
}

class Chaos {
  readonly problems: string[] = []
  readonly sent: Sent[] = []
  readonly measured: (Measured & { requests: number })[] = []
  readonly #seed: number
  readonly #child: Child
  readonly #folders: Readonly<Record<ModelName, AdapterFolder>>
  readonly #tokens: Tokens
  /** Requests of the warm-up, by server. */
  readonly #warm = new Map<string, number>()
  /** Connections with bytes that are not HTTP. Some of them reach the server's routes. */
  readonly #garbage = new Map<string, number>()
  #rounds = 0
  evictions = 0
  rowsPerBatch = 0

  constructor(
    seed: number,
    child: Child,
    folders: Readonly<Record<ModelName, AdapterFolder>>,
    tokens: Tokens,
  ) {
    this.#seed = seed
    this.#child = child
    this.#folders = folders
    this.#tokens = tokens
  }

  async serve(models: readonly ModelName[], options: { maxGroups: number; maxQueue?: number }) {
    const urls = new Map<ModelName, string>()
    for (const model of models)
      urls.set(
        model,
        await this.#child.serve({
          model: join(FIXTURES, model),
          task: MODELS[model].task,
          adapters: this.#folders[model].path,
          memory: MEMORY[model],
          port: 0,
          native: false,
          ...options,
        }),
      )
    return urls
  }

  /** Opens a graph for each kind of adapter, and checks that it is there. */
  async warmUp(urls: ReadonlyMap<ModelName, string>): Promise<void> {
    const client = new Client()
    for (const [model, url] of urls) {
      const kinds = kindsOf(model, this.#folders[model].population)
      for (let index = 0; index < kinds; index++) {
        // These are not changed by the writers yet.
        const path = `/v2/models/customer-${index}/ready`
        const { status, text } = await client.send(url, { method: 'GET', path })
        if (status === 200) this.#warm.set(url, index + 1)
        else this.problems.push(`${model} ${path}: ${status} ${text}`)
      }
    }
    client.close()
  }

  /** Sends requests from all connections, while the folders change, until `during` ends. */
  async load(
    phase: Phase,
    urls: ReadonlyMap<ModelName, string>,
    during: () => Promise<unknown>,
  ): Promise<void> {
    const round = ++this.#rounds
    const stop = new AbortController()
    const client = new Client()
    const models = SHARES.filter(([model]) => urls.has(model))
    const writers = [...urls.keys()].map((model, i) =>
      this.#folders[model].change(new Random(this.#seed, round, i), stop.signal),
    )
    const workers = Array.from({ length: CONNECTIONS }, async (_, worker) => {
      for (let number = 0; !stop.signal.aborted; number++) {
        const random = new Random(this.#seed, round, 1000 + worker, number)
        const model = random.weighted(models)
        const url = urls.get(model) as string
        if (random.chance(0.01)) await this.#sendGarbage(url, random)
        const isBad = random.chance(0.12)
        const request = isBad
          ? badRequest(model, random)
          : rightRequest(
              this.#folders[model],
              this.#tokens,
              random,
              phase === 'crowded' ? CROWDED_KINDS : undefined,
            )
        const abortAfter = random.chance(0.1) ? random.below(60) : undefined
        const received = await client.send(url, { ...request.sending, abortAfter })
        this.sent.push(sentOf({ phase, model, url, request, received, id: `${round}.${worker}.${number}` }))
        // A server that is gone or full answers at once.
        if (received.outcome === 'reset' || received.status === 429) await sleep(100)
      }
    })
    await during()
    stop.abort()
    await Promise.all([...workers, ...writers])
    client.close()
  }

  /** Waits until nothing runs, and measures the server. */
  async measure(): Promise<void> {
    await sleep(300)
    this.measured.push({ ...(await this.#child.measure()), requests: this.sent.length })
  }

  /** Compares the server's counters with those of the clients. */
  async checkMetrics(urls: ReadonlyMap<ModelName, string>): Promise<void> {
    const client = new Client()
    for (const [model, url] of urls) {
      const { text } = await client.send(url, { method: 'GET', path: '/metrics' })
      const values = new Map<string, number>()
      for (const line of text.split('\n')) {
        const [, name, value] = /^([^#\s]\S*) (\S+)$/.exec(line) ?? []
        if (name) values.set(name, Number(value))
      }
      const expectValue = (name: string, expected: number) => {
        if (values.get(name) !== expected)
          this.problems.push(`${model}: ${name} is ${values.get(name)}, expected ${expected}`)
      }
      // The request for the metrics itself.
      expectValue('fourierft_requests_in_flight', 1)
      expectValue('fourierft_queue_length', 0)
      const memory = values.get('fourierft_resident_adapter_bytes') ?? Number.NaN
      if (!(memory <= MEMORY[model])) this.problems.push(`${model}: adapters take ${memory} bytes`)
      this.evictions += values.get('fourierft_adapter_evictions_total') ?? 0
      const lookups =
        (values.get('fourierft_adapter_lookups_total{result="hit"}') ?? 0) +
        (values.get('fourierft_adapter_lookups_total{result="miss"}') ?? 0)
      const answered = this.sent.filter(
        (one) =>
          one.url === url && one.answers.length > 0 && one.request.type === 'right' && one.request.adapter,
      )
      if (lookups < answered.length)
        this.problems.push(`${model}: ${lookups} lookups of adapters for ${answered.length} answers`)
      const rows = values.get('fourierft_batch_rows_sum') ?? 0
      this.rowsPerBatch ||= rows / (values.get('fourierft_batch_rows_count') ?? Number.NaN)
      // Files of one adapter must not change how all others share batches.
      const models = await client.send(url, { method: 'GET', path: '/v1/models' })
      const { joining } = JSON.parse(models.text).data[0]
      if (joining !== 'padded') this.problems.push(`${model}: requests share batches as '${joining}'`)
      const counted = new Map<number, number>()
      for (const [name, value] of values) {
        const [, api, status] = /^fourierft_requests_total\{api="(\w+)",status="(\d+)"\}$/.exec(name) ?? []
        if (status === undefined || api === 'metrics') continue
        counted.set(Number(status), (counted.get(Number(status)) ?? 0) + value)
      }
      this.#compareCounts(
        model,
        counted,
        this.sent.filter((one) => one.url === url),
        { warm: this.#warm.get(url) ?? 0, garbage: this.#garbage.get(url) ?? 0 },
      )
    }
    client.close()
  }

  #compareCounts(
    model: ModelName,
    counted: ReadonlyMap<number, number>,
    sent: readonly Sent[],
    { warm, garbage }: { readonly warm: number; readonly garbage: number },
  ): void {
    const answered = new Map<number, number>([[200, warm]])
    for (const { received } of sent)
      if (received.outcome === 'answer')
        answered.set(received.status, (answered.get(received.status) ?? 0) + 1)
    const total = sent.filter(({ received }) => received.outcome === 'answer').length + warm
    // A client that gave up does not know whether its request was answered.
    const unknown = sent.length + warm - total + garbage
    for (const status of new Set([...counted.keys(), ...answered.keys()])) {
      const surplus = (counted.get(status) ?? 0) - (answered.get(status) ?? 0)
      if (surplus < 0 || surplus > unknown)
        this.problems.push(
          `${model}: /metrics counts ${counted.get(status) ?? 0} requests with the status ${status}, clients counted ` +
            `${answered.get(status) ?? 0}, and ${unknown} have no answer`,
        )
    }
    const all = [...counted.values()].reduce((sum, value) => sum + value, 0)
    if (all < total || all > total + unknown)
      this.problems.push(
        `${model}: /metrics counts ${all} requests, clients ${total} and ${unknown} without an answer`,
      )
  }

  /** Bytes that are not HTTP, and requests that end in the middle. */
  async #sendGarbage(url: string, random: Random): Promise<void> {
    const { hostname, port } = new URL(url)
    this.#garbage.set(url, (this.#garbage.get(url) ?? 0) + 1)
    const bytes = random.pick([
      `${SECRET}\r\n\r\n`,
      `GET / HTTP/9.9\r\n\r\n`,
      `POST /v1/embeddings HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n${SECRET}`,
      `POST /v2/x HTTP/1.1\r\nhost: a\r\n${'a: b\r\n'.repeat(5000)}\r\n`,
      `GET /\u0000 HTTP/1.1\r\nhost: a\r\n\r\n`,
      `GET http://[ HTTP/1.1\r\nhost: [\r\n\r\n`,
    ])
    await new Promise<void>((resolve) => {
      const socket = connect({ host: hostname, port: Number(port) }, () => {
        socket.write(bytes)
        setTimeout(() => socket.destroy(), random.below(100))
      })
      const late = setTimeout(() => socket.destroy(), 5000)
      socket.on('error', () => socket.destroy())
      socket.on('close', () => {
        clearTimeout(late)
        resolve()
      })
    })
  }
}

function sentOf({
  phase,
  model,
  url,
  request,
  received: { text, headers, ...received },
  id,
}: Pick<Sent, 'phase' | 'model' | 'url' | 'request' | 'id'> & { received: Received }): Sent {
  const { status, outcome } = received
  let problem: string | undefined
  let answers: readonly Answer[] = []
  if (outcome === 'answer' && status === 200 && request.type === 'right') {
    try {
      answers = request.read(text)
      if (answers.length !== request.texts.length)
        problem = `${answers.length} answers for ${request.texts.length} texts`
    } catch (error) {
      problem = `${error}: ${text.slice(0, 300)}`
    }
  }
  if (outcome === 'answer' && status >= 400) {
    // Those of Node itself have none.
    const isJson = headers['content-type']?.startsWith('application/json') === true
    if (!isJson) problem = `an error that is not JSON: ${text.slice(0, 300)}`
    else if (JSON.parse(text).error === undefined)
      problem = `an error without its field: ${text.slice(0, 300)}`
    else if (text.includes(SECRET) && status >= 500)
      problem = `an error of the server that repeats the request: ${text.slice(0, 300)}`
  }
  return {
    phase,
    model,
    url,
    request,
    received,
    retryAfter: headers['retry-after'],
    answers,
    problem,
    error: status >= 400 ? text.slice(0, 300) : '',
    id,
  }
}

const isGood = (content: Content): content is Content & { type: 'good' } => content.type === 'good'

/** Contents that a right request can have seen. Null is the base model. */
function goodContents(folder: AdapterFolder, { request, received }: Sent) {
  if (request.type === 'bad') return []
  if (request.adapter === null) return [null]
  return folder.seen(request.adapter, received.begin, received.end).contents.filter(isGood)
}

/** Returns what is wrong with the status of a request. */
function statusProblem(folder: AdapterFolder, one: Sent, closedAt: number): string | undefined {
  const { request, received, phase, retryAfter } = one
  const { outcome, status } = received
  if (outcome === 'hung') return 'no answer'
  if (outcome === 'aborted') return undefined
  if (outcome === 'reset') {
    // Nobody promises an answer to those that come after the order to close.
    if (phase === 'closing' && received.begin >= closedAt) return undefined
    return request.type === 'bad' && request.mayReset
      ? undefined
      : `the connection was closed: ${received.error}`
  }
  if (status === 503)
    return phase === 'closing' && received.end >= closedAt && retryAfter ? undefined : 'status 503'
  if (status === 429) return phase === 'crowded' && Number(retryAfter) >= 1 ? undefined : 'status 429'
  if (request.type === 'bad') return request.statuses.includes(status) ? undefined : `status ${status}`
  if (status === 504) return request.hasDeadline ? undefined : 'status 504'
  const { contents, wasIncomplete } =
    request.adapter === null
      ? { contents: [{ type: 'good' }], wasIncomplete: false }
      : folder.seen(request.adapter, received.begin, received.end)
  if (status === 409) return phase === 'crowded' && request.adapter !== null ? undefined : 'status 409'
  const types = contents.map(({ type }) => type)
  if (status === 200) return types.includes('good') ? undefined : `status 200 of a folder that was ${types}`
  if (status === 404) return wasIncomplete || types.some((type) => type !== 'good') ? undefined : 'status 404'
  // A folder that changes again and again is not read.
  const isUnsettled = contents.length > 2 && one.error.includes('change while they are read')
  if (status === 422)
    return wasIncomplete || isUnsettled || types.includes('broken') ? undefined : 'status 422'
  return `status ${status}`
}

function describe(folder: AdapterFolder, { id, phase, model, request, received, error }: Sent): string {
  const { method, path, body = '' } = request.sending
  const changes =
    request.type === 'right' && request.adapter ? folder.history(request.adapter, received.end) : ''
  const times = `${received.begin.toFixed(1)} to ${received.end.toFixed(1)}`
  return `request ${id} (${phase}, ${times}) to ${model}: ${method} ${path} ${String(body).slice(0, 300)}; ${received.outcome} ${received.status} ${error} after ${received.earlier.slice(-5)}; changes: ${changes}`
}

/** Runs the load. What must not be is in `problems`. */
export async function runChaos({
  seed,
  population,
  seconds,
  crowdedSeconds,
}: ChaosOptions): Promise<ChaosReport> {
  env.localModelPath = FIXTURES
  env.allowRemoteModels = false
  env.logLevel = LogLevel.ERROR
  const root = await mkdtemp(join(tmpdir(), 'fourierft-chaos-'))
  const child = await openChild(SECRET)
  try {
    const folders = Object.fromEntries(
      MODEL_NAMES.map((model) => [
        model,
        new AdapterFolder(model, model === 'bert' ? population : { count: 300, seeds: 2 }, root),
      ]),
    ) as Record<ModelName, AdapterFolder>
    const chaos = new Chaos(seed, child, folders, await readTokens())
    const urls = await chaos.serve(MODEL_NAMES, { maxGroups: 64 })
    await chaos.warmUp(urls)
    await chaos.load('warm', urls, () => sleep(Math.min(30_000, seconds * 300)))
    await chaos.measure()
    for (let round = 0; round < 3; round++) {
      await chaos.load('load', urls, () => sleep((seconds * 1000) / 3))
      await chaos.measure()
    }
    await chaos.checkMetrics(urls)
    let closedAt = Number.POSITIVE_INFINITY
    await chaos.load('closing', urls, async () => {
      await sleep(1000)
      closedAt = performance.now()
      await Promise.all(Array.from(urls.values(), (url) => child.closeServer(url)))
      const took = performance.now() - closedAt
      if (took >= GRACE_MS) chaos.problems.push(`closing took ${took} ms: connections were closed by force`)
    })
    const crowded = await chaos.serve(['bert'], { maxGroups: CROWDED_KINDS + 2, maxQueue: 150 })
    await chaos.load('crowded', crowded, () => sleep(crowdedSeconds * 1000))
    await chaos.checkMetrics(crowded)
    await child.closeServer(crowded.get('bert') as string)
    await child.end()
    return {
      ...(await judge(chaos, folders, closedAt, child)),
      measured: chaos.measured,
      evictions: chaos.evictions,
      rowsPerBatch: chaos.rowsPerBatch,
    }
  } finally {
    await child.end()
    await rm(root, { recursive: true })
  }
}

async function judge(
  chaos: Chaos,
  folders: Readonly<Record<ModelName, AdapterFolder>>,
  closedAt: number,
  child: Child,
): Promise<Omit<ChaosReport, 'measured' | 'evictions' | 'rowsPerBatch'>> {
  const { sent } = chaos
  const problems = [...chaos.problems, ...child.problems]
  const outcomes: Record<string, number> = {}
  const needs = new Map<string, Need>()
  const candidates = new Map<Sent, readonly (readonly Need[])[]>()
  for (const one of sent) {
    const { request, received, phase, model } = one
    const outcome = `${phase} ${request.type} ${received.outcome === 'answer' ? received.status : received.outcome}`
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
    const problem = one.problem ?? statusProblem(folders[model], one, closedAt)
    if (problem !== undefined) problems.push(`${problem}: ${describe(folders[model], one)}`)
    if (request.type !== 'right' || one.answers.length === 0) continue
    const { question, texts } = request
    const possible = goodContents(folders[model], one).map((content) =>
      texts.map((text): Need => ({ model, content, question, text })),
    )
    candidates.set(one, possible)
    for (const need of possible.flat()) needs.set(needId(need), need)
  }
  const alone = await answersAlone([...needs.values()])
  const expectedOf = (need: Need) => alone.get(needId(need)) as NonNullable<ReturnType<typeof alone.get>>
  let [ties, versionPairs, distinctPairs] = [0, 0, 0]
  for (const [one, possible] of candidates) {
    // All texts of a request have the same version.
    const isRight = possible.some((wanted) =>
      wanted.every((need, i) => isSame(one.answers[i] as Answer, expectedOf(need))),
    )
    if (possible.some((wanted) => wanted.some((need) => expectedOf(need).isTie))) ties++
    const [first, second] = possible
    if (first && second) {
      versionPairs++
      if (first.some((need, i) => !isSame(expectedOf(need).answer, expectedOf(second[i] as Need))))
        distinctPairs++
    }
    if (!isRight && possible.length > 0) {
      const shown = JSON.stringify({
        received: one.answers,
        expected: possible.map((w) => w.map(expectedOf)),
      })
      problems.push(`a wrong answer: ${shown.slice(0, 1500)}: ${describe(folders[one.model], one)}`)
    }
  }
  const changes: Record<string, number> = {}
  for (const folder of Object.values(folders))
    for (const [change, count] of Object.entries(folder.changes))
      changes[change] = (changes[change] ?? 0) + count
  return {
    requests: sent.length,
    outcomes,
    changes,
    compared: candidates.size,
    ties,
    versionPairs,
    distinctPairs,
    problems,
  }
}
