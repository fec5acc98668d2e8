/**
 * Measures `@fourierft/server` over HTTP: embeddings of one model with another adapter in each request, against the same server with the base model only.
 * Servers and load generator are processes of their own. A round measures every server in turn with the same texts; ratios are computed within a round.
 */
import { execFile, spawnSync } from 'node:child_process'
import { mkdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { formatRatio, median, printSection, type RunLength, ratio, type Spread } from './measure.js'
import { type ModelFolder, ModelFolders } from './model-folders.js'
import type { TransformerSize } from './random-transformer.js'
import { findEncoder } from './sentence-encoder.js'
import type { ClosedLoad, FirstUses, FirstUseTimes, LoadTimes, OpenLoad, Requests } from './serving-load.js'
import { type ServerProcess, startPeft, startServer } from './serving-process.js'

interface Plan {
  readonly rounds: number
  /** Numbers of requests in flight. */
  readonly clients: readonly number[]
  /** The number of adapters in the folder: a multiple of all `clients`. */
  readonly adapters: number
  /** The number of adapters that PEFT holds: a multiple of the first of `clients`. */
  readonly peftAdapters: number
  readonly newAdapters: number
  /** Seconds of one measurement. */
  readonly seconds: number
  /** The fewest requests from which a p95 is taken. */
  readonly openRequests: number
}

const PLANS: Readonly<Record<RunLength, Plan>> = {
  quick: {
    rounds: 1,
    clients: [8, 32],
    adapters: 64,
    peftAdapters: 8,
    newAdapters: 3,
    seconds: 0.1,
    openRequests: 20,
  },
  full: {
    rounds: 3,
    clients: [8, 32, 128],
    adapters: 1024,
    peftAdapters: 32,
    newAdapters: 40,
    seconds: 2.5,
    openRequests: 100,
  },
}

const N = 1000
const MINILM = { layers: 3, width: 384, heads: 12, vocabulary: 30_522, positions: 512 }
const BERT = { layers: 12, width: 768, heads: 12, vocabulary: 30_522, positions: 512 }
const QUICK = { layers: 2, width: 64, heads: 4, vocabulary: 6000, positions: 256 }

const WORDS = [10, 60] as const
const ONE_WORD = [1, 1] as const
/** The requests in flight of the comparisons with other servers than the base model's and PEFT's. */
const COMPARED = 32
/** The adapters for which the server has memory that is compared because it must evict. */
const ROOM = 16
/** The adapters in memory before the others are loaded and their memory is measured. */
const WARM = 64
/** The words of the texts of first uses. */
const FIRST_WORDS = 35
const GOALS = { mixed: 0.85, loading: 5, p95: 2, firstUse: 30, bytes: 110_000 }
const MIB = 2 ** 20
const PYTHON = process.env.FOURIERFT_PYTHON ?? 'python3'

export async function benchmarkServing(runLength: RunLength): Promise<void> {
  const hasPeft = spawnSync(PYTHON, ['-c', 'import peft, tokenizers, torch, transformers']).status === 0
  console.log(
    `\nserving\nall processes on the same processors, requests of ${WORDS.join(' to ')} words to /v1/embeddings`,
  )
  if (!hasPeft) console.log('without PEFT: set FOURIERFT_PYTHON to a Python with PEFT and Transformers')
  const folders = new ModelFolders()
  try {
    const benchmark = (title: string, folder: ModelFolder, size: TransformerSize) =>
      benchmarkModel(title, folders, folder, size, hasPeft, PLANS[runLength])
    if (runLength === 'quick') {
      await benchmark('A small encoder', folders.encoder('encoder', QUICK), QUICK)
      return
    }
    const path = findEncoder()
    if (path === undefined)
      console.log('without MiniLM: fetch it with node packages/onnxruntime/scripts/minilm.js')
    else await benchmark('MiniLM', folders.minilm(path), MINILM)
    await benchmark('A BERT-base-sized encoder', folders.encoder('encoder', BERT), BERT)
  } finally {
    folders.remove()
  }
}

async function benchmarkModel(
  title: string,
  folders: ModelFolders,
  folder: ModelFolder,
  size: TransformerSize,
  hasPeft: boolean,
  plan: Plan,
): Promise<void> {
  const adapters = join(folders.root, `${folder.name}-adapters`)
  for (let i = 0; i < plan.adapters; i++) writeAdapter(folder, adapters, `a${i}`, i)
  const servers = await startServers(folders, folder, adapters, size, hasPeft, plan)
  try {
    const explanation =
      `query and value of ${size.layers} layers of width ${size.width}, n = ${N}, ${plan.adapters} adapters; base: the same server without adapters; ` +
      `mixed: each request in flight has another adapter; medians [quartiles] of ${plan.rounds} rounds`
    printSection(title, servers.peft ? `${explanation}; ${servers.peft.versions}` : explanation)
    const memory = await loadAll(servers.mixed, plan)
    await useEach(servers.mixedAlone, plan.adapters, ONE_WORD)
    const base = await printThroughput(servers, plan)
    await printLatency(servers, plan, base / 2)
    const names = Array.from({ length: plan.newAdapters }, (_, i) => `new${i}`)
    for (const [i, name] of names.entries()) writeAdapter(folder, adapters, name, plan.adapters + i)
    await printFirstUses(servers.mixed, names)
    printMemory(memory, size)
  } finally {
    for (const server of Object.values(servers)) server?.stop()
  }
}

function writeAdapter(folder: ModelFolder, adapters: string, name: string, seed: number): void {
  const { config, model } = folder.adapter(seed).toBytes()
  mkdirSync(join(adapters, name), { recursive: true })
  writeFileSync(join(adapters, name, 'adapter_config.json'), config)
  writeFileSync(join(adapters, name, 'adapter_model.safetensors'), model)
}

type MixedServer = Awaited<ReturnType<typeof startServer>>
type PeftServer = Awaited<ReturnType<typeof startPeft>>

interface Servers {
  readonly base: ServerProcess
  readonly mixed: MixedServer
  /** Without batches. */
  readonly baseAlone: ServerProcess
  readonly mixedAlone: ServerProcess
  /** With too little memory: each request loads its adapter. */
  readonly evicting: ServerProcess
  /** A simple server that loads the adapter's file for each request. */
  readonly loading: ServerProcess
  /** A simple server that opens the model for each request. */
  readonly opening: ServerProcess
  readonly peft: PeftServer | undefined
  /** PEFT that loads the adapter's file for each request. */
  readonly swappingPeft: PeftServer | undefined
}

async function startServers(
  { root }: ModelFolders,
  { name }: ModelFolder,
  adapters: string,
  { layers, width, heads, vocabulary }: TransformerSize,
  hasPeft: boolean,
  plan: Plan,
): Promise<Servers> {
  const model = join(root, name)
  const memory = ROOM * statSync(join(adapters, 'a0', 'adapter_model.safetensors')).size
  const sizes = { layers, width, heads, vocabulary, n: N, adapters: plan.peftAdapters }
  const options = Object.entries(sizes).flatMap(([option, value]) => [`--${option}`, value])
  const peftOptions = [join(model, 'tokenizer.json'), ...options]
  const [base, mixed, baseAlone, mixedAlone, evicting, loading, opening, peft, swappingPeft] =
    await Promise.all([
      startServer({ kind: 'serving', model }),
      startServer({ kind: 'serving', model, adapters }),
      startServer({ kind: 'serving', model, maxBatch: 1 }),
      startServer({ kind: 'serving', model, adapters, maxBatch: 1 }),
      startServer({ kind: 'serving', model, adapters, memory }),
      startServer({ kind: 'loading', model, adapters }),
      startServer({ kind: 'opening', model, adapters }),
      hasPeft ? startPeft(PYTHON, peftOptions) : undefined,
      hasPeft ? startPeft(PYTHON, [...peftOptions, '--swap', join(root, `${name}-peft`)]) : undefined,
    ])
  return { base, mixed, baseAlone, mixedAlone, evicting, loading, opening, peft, swappingPeft }
}

interface Case {
  readonly title: string
  readonly server: ServerProcess
  /** The number of adapters that the requests name in turn; 0: the base model. */
  readonly adapters: number
  readonly clients: number
}

/** Requests per second, one for each round. */
type Rates = ReadonlyMap<Case, readonly number[]>

/** @returns the median requests per second of the base model */
async function printThroughput(servers: Servers, plan: Plan): Promise<number> {
  const { peft, swappingPeft } = servers
  const { adapters } = plan
  const [fewest] = plan.clients as [number]
  const pairs = plan.clients.map((clients) => ({
    base: { title: 'base', server: servers.base, adapters: 0, clients },
    mixed: { title: 'mixed', server: servers.mixed, adapters, clients },
  }))
  const ofClients = (clients: number) => pairs.find(({ base }) => base.clients === clients) ?? pairs[0]
  const compared = ofClients(COMPARED)
  const alike = { adapters, clients: COMPARED }
  const comparisons: readonly (readonly [of: Case, over: Case, goal?: number])[] = [
    [compared.base, { ...alike, title: 'base, maxBatch 1', server: servers.baseAlone, adapters: 0 }],
    [compared.mixed, { ...alike, title: 'mixed, maxBatch 1', server: servers.mixedAlone }],
    [
      compared.mixed,
      { ...alike, title: 'a simple server that loads the file for each request', server: servers.loading },
      GOALS.loading,
    ],
    [
      compared.mixed,
      { ...alike, title: `the same server with memory for ${ROOM} adapters`, server: servers.evicting },
      GOALS.loading,
    ],
    [
      compared.mixed,
      {
        adapters,
        clients: 1,
        title: 'a simple server that opens the model for each request',
        server: servers.opening,
      },
    ],
    ...(peft && swappingPeft
      ? ([
          [
            compared.mixed,
            {
              title: 'PEFT, the file loaded for each request',
              server: swappingPeft,
              adapters: swappingPeft.adapters,
              clients: 1,
            },
            GOALS.loading,
          ],
          [
            ofClients(fewest).mixed,
            {
              title: 'PEFT, set_adapter for each request',
              server: peft,
              adapters: peft.adapters,
              clients: fewest,
            },
          ],
          [ofClients(fewest).base, { title: 'PEFT, base', server: peft, adapters: 0, clients: fewest }],
        ] as const)
      : []),
  ]
  const rates = await measureRates([...pairs, ...comparisons.map(([, over]) => ({ over }))], plan)
  const ratesOf = (measured: Case) => rates.get(measured) as readonly number[]
  const rate = (measured: Case) => perSecond(median(ratesOf(measured)))
  printTable(
    ['in flight', 'base, requests/s', 'mixed, requests/s', 'mixed over base', 'goal'],
    pairs.map(({ base, mixed }) => {
      const found = ratio(ratesOf(mixed), ratesOf(base))
      return [`${base.clients}`, rate(base), rate(mixed), formatRatio(found), atLeast(found, GOALS.mixed)]
    }),
  )
  printTable(
    ['throughput of', 'in flight', 'requests/s', 'over', 'requests/s', 'ratio', 'goal'],
    comparisons.map(([of, over, goal]) => {
      const found = ratio(ratesOf(of), ratesOf(over))
      const verdict = goal === undefined ? '' : atLeast(found, goal)
      return [of.title, `${of.clients}`, rate(of), over.title, rate(over), formatRatio(found), verdict]
    }),
  )
  return median(ratesOf(compared.base))
}

/** @param groups cases that get the same requests */
async function measureRates(groups: readonly Readonly<Record<string, Case>>[], plan: Plan): Promise<Rates> {
  const planned: { readonly group: readonly Case[]; readonly count: number }[] = []
  for (const group of groups.map((named) => Object.values(named))) {
    // The first requests only tell how many are a measurement.
    const found: number[] = []
    for (const measured of group) found.push(await rateOf(measured, 0, 2 * measured.clients))
    const [{ clients }] = group as [Case]
    planned.push({ group, count: clients * Math.max(2, Math.ceil((found[0] * plan.seconds) / clients)) })
  }
  const rates = new Map<Case, number[]>(
    planned.flatMap(({ group }) => group.map((measured) => [measured, []])),
  )
  for (let round = 0; round < plan.rounds; round++)
    for (const { group, count } of planned)
      for (const measured of group) rates.get(measured)?.push(await rateOf(measured, round * count, count))
  return rates
}

async function rateOf({ server, adapters, clients }: Case, first: number, count: number): Promise<number> {
  const requests = { url: server.url, first, adapters, words: WORDS }
  const { elapsed } = await send({ kind: 'closed', ...requests, clients, count })
  return count / (elapsed / 1000)
}

/** @param rate requests per second */
async function printLatency({ base, mixed }: Servers, plan: Plan, rate: number): Promise<void> {
  const count = Math.ceil(Math.max(plan.openRequests, 2 * plan.seconds * rate))
  const p95 = async (requests: Omit<Requests, 'words'>) => {
    const { latencies } = await send({ kind: 'open', ...requests, words: WORDS, rate, count })
    return latencies.toSorted((a, b) => a - b)[Math.ceil(0.95 * count) - 1]
  }
  const found = { base: [] as number[], mixed: [] as number[] }
  for (let round = 0; round < plan.rounds; round++) {
    const first = round * count
    found.base.push(await p95({ url: base.url, first, adapters: 0 }))
    found.mixed.push(await p95({ url: mixed.url, first, adapters: plan.adapters }))
  }
  const over = ratio(found.mixed, found.base)
  const milliseconds = (values: readonly number[]) => `${median(values).toFixed(1)} ms`
  const verdict = `${GOALS.p95}: ${over.median < GOALS.p95 ? 'met' : 'missed'}`
  printTable(
    [`p95 at half load (${perSecond(rate)} requests/s)`, 'base', 'mixed', 'mixed over base', 'goal'],
    [['', milliseconds(found.base), milliseconds(found.mixed), formatRatio(over), verdict]],
  )
}

async function printFirstUses({ url }: ServerProcess, names: readonly string[]): Promise<void> {
  const { first, later } = await send({ kind: 'first uses', url, names, words: FIRST_WORDS })
  const added = median(first) - median(later)
  printTable(
    ['an adapter never seen before', 'first request', 'later request', 'difference', 'goal'],
    [
      [
        '',
        `${median(first).toFixed(1)} ms`,
        `${median(later).toFixed(1)} ms`,
        `${added.toFixed(1)} ms`,
        `${GOALS.firstUse} ms: ${added <= GOALS.firstUse ? 'met' : 'missed'}`,
      ],
    ],
  )
}

/** Bytes that the adapters after the first ones have added, and how many they are. */
interface AdapterMemory {
  readonly count: number
  readonly heap: number
  readonly resident: number
  /** What the server counts for its budget. */
  readonly counted: number
}

/** Sends a request with each of the first adapters, so that they are in memory. */
async function useEach({ url }: ServerProcess, adapters: number, words: Requests['words']): Promise<void> {
  const count = Math.max(adapters, 2 * COMPARED)
  await send({ kind: 'closed', url, first: 0, adapters, words, clients: COMPARED, count })
}

/** Loads all adapters. */
async function loadAll(server: MixedServer, { adapters }: Plan): Promise<AdapterMemory> {
  const measure = async (count: number, words: Requests['words']) => {
    await useEach(server, count, words)
    const metrics = await (await fetch(`${server.url}/metrics`)).text()
    const metric = (name: string) => Number(new RegExp(`^fourierft_${name} (\\S+)$`, 'm').exec(metrics)?.[1])
    const counts = { count: metric('resident_adapters'), counted: metric('resident_adapter_bytes') }
    return { ...counts, ...(await server.memoryInUse()) }
  }
  const warm = Math.min(WARM, adapters / 2)
  await measure(warm, WORDS)
  const before = await measure(warm, WORDS)
  const after = await measure(adapters, ONE_WORD)
  return {
    count: after.count - before.count,
    heap: after.heap - before.heap,
    resident: after.resident - before.resident,
    counted: after.counted - before.counted,
  }
}

function printMemory(
  { count, heap, resident, counted }: AdapterMemory,
  { layers, width }: TransformerSize,
): void {
  const mib = (bytes: number) => `${(bytes / MIB).toFixed(1)} MiB`
  const each = heap / count
  const hasGoal = layers === BERT.layers && width === BERT.width
  const verdict = hasGoal ? `${GOALS.bytes / 1000} kB: ${each <= GOALS.bytes ? 'met' : 'missed'}` : ''
  printTable(
    [
      'memory of',
      "JavaScript's memory",
      'resident memory',
      'counted by the server',
      'for one adapter',
      'goal',
    ],
    [
      [
        `${count} adapters`,
        mib(heap),
        mib(resident),
        mib(counted),
        `${(each / 1000).toFixed(1)} kB`,
        verdict,
      ],
    ],
  )
}

function atLeast({ median }: Spread, goal: number): string {
  return `${goal}: ${median >= goal ? 'met' : 'missed'}`
}

function perSecond(rate: number): string {
  return rate >= 100 ? rate.toFixed(0) : rate.toPrecision(3)
}

function printTable(head: readonly string[], rows: readonly (readonly string[])[]): void {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  console.log(['', line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n'))
}

const run = promisify(execFile)
const PROGRAM = fileURLToPath(new URL('serving-load.js', import.meta.url))

/** Sends a load from a process of its own. */
async function send(load: ClosedLoad | OpenLoad): Promise<LoadTimes>
async function send(load: FirstUses): Promise<FirstUseTimes>
async function send(load: ClosedLoad | OpenLoad | FirstUses): Promise<LoadTimes | FirstUseTimes> {
  const { stdout } = await run(process.execPath, [PROGRAM, JSON.stringify(load)], { maxBuffer: 64 * MIB })
  return JSON.parse(stdout)
}
