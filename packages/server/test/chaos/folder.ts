/** `AdapterFolder`: a folder of adapters whose contents change at random, with the history of each, so that a request's possible answers are known. */
import { execFileSync } from 'node:child_process'
import { closeSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs'
import { lstat, mkdir, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { CONFIG_FILE, MODEL_FILE, savePretrained } from '@fourierft/core'
import type { Random } from './random.js'
import {
  adapterOf,
  bytesOf,
  type Content,
  filesOf,
  firstVersion,
  MODELS,
  type ModelName,
  overflowing,
  type Population,
  type Version,
} from './versions.js'

/** A content, and the times at which its change began and was complete, in milliseconds of `performance.now`. */
interface State {
  readonly content: Content
  readonly begin: number
  end: number
  /** At each time during the change the folder has a whole adapter: the old one or the new one. */
  readonly isAtomic: boolean
}

/** What a request can have seen. */
export interface Seen {
  readonly contents: readonly Content[]
  /** The folder was incomplete for a time. */
  readonly wasIncomplete: boolean
}

/** Adapters that are changed, and that half of the requests ask for. */
export const CHANGING = 60
/** Writers at the same time, each for its own adapters. */
const WRITERS = 3

export class AdapterFolder {
  readonly model: ModelName
  readonly population: Population
  /** The server's folder. */
  readonly path: string
  readonly names: readonly string[]
  /** Prepared folders, and those that symbolic links lead to. */
  readonly #store: string
  readonly #histories = new Map<string, State[]>()
  #lastVersion = 1_000_000
  #lastPath = 0
  #changes = new Map<string, number>()

  constructor(model: ModelName, population: Population, root: string) {
    this.model = model
    this.population = population
    this.path = join(root, model)
    this.#store = join(root, `${model}-store`)
    this.names = Array.from({ length: population.count }, (_, index) => `customer-${index}`)
    mkdirSync(this.path, { recursive: true })
    mkdirSync(this.#store, { recursive: true })
    for (const [index, name] of this.names.entries()) {
      const version = firstVersion(model, index, population.seeds)
      const { config, model: bytes } = bytesOf(version)
      const directory = join(this.path, name)
      mkdirSync(directory)
      writeFileSync(join(directory, CONFIG_FILE), config)
      writeFileSync(join(directory, MODEL_FILE), bytes)
      this.#histories.set(name, [
        {
          content: { type: 'good', version },
          begin: Number.NEGATIVE_INFINITY,
          end: Number.NEGATIVE_INFINITY,
          isAtomic: true,
        },
      ])
    }
  }

  /** How often each kind of change was made. */
  get changes(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#changes)
  }

  /** What requests for an adapter can have seen between two times. */
  seen(name: string, from: number, to: number): Seen {
    const states = this.#histories.get(name) as State[]
    const contents = states.filter(
      ({ begin }, i) => begin <= to && (states[i + 1]?.end ?? Number.POSITIVE_INFINITY) >= from,
    )
    const wasIncomplete = states.some(({ begin, end, isAtomic }) => !isAtomic && begin <= to && end >= from)
    return { contents: contents.map(({ content }) => content), wasIncomplete }
  }

  /** The changes of an adapter in the seconds before a time, for messages. */
  history(name: string, to: number): string {
    const states = (this.#histories.get(name) as State[]).filter(
      ({ begin, end }) => begin <= to && end >= to - 2000,
    )
    return states
      .map(({ content, begin, end }) => {
        const what = content.type === 'broken' ? content.how : content.type
        return `${begin.toFixed(1)} to ${end.toFixed(1)}: ${what}`
      })
      .join(', ')
  }

  /** Changes adapters until the signal is aborted. Afterwards all changes are complete. */
  async change(random: Random, signal: AbortSignal): Promise<void> {
    const writers = Array.from({ length: WRITERS }, async (_, writer) => {
      const own = this.names.slice(0, CHANGING).filter((_, index) => index % WRITERS === writer)
      while (!signal.aborted) {
        await this.#changeOne(random.pick(own), random)
        await sleep(random.below(40))
      }
    })
    await Promise.all(writers)
  }

  async #changeOne(name: string, random: Random): Promise<void> {
    const content = this.#contentOf(name)
    const isGood = content.type === 'good'
    const change = random.weighted<string>([
      ['swap', 30],
      ['link', 20],
      ['save', 20],
      ['overwrite', isGood ? 15 : 0],
      ['cut off', isGood ? 10 : 0],
      ['malicious', isGood ? 12 : 0],
      ['delete', isGood ? 8 : 0],
    ])
    this.#changes.set(change, (this.#changes.get(change) ?? 0) + 1)
    const directory = join(this.path, name)
    const version = this.#nextVersion(isGood ? content.version : undefined, random)
    const good: Content = { type: 'good', version }
    if (change === 'swap' || change === 'link') {
      const prepared = await this.#prepare(version)
      // Old files and files that were just written are different cases for the server.
      if (random.chance(0.5)) await sleep(80)
      if (change === 'swap') await this.#record(name, good, false, () => this.#swap(prepared, directory))
      else await this.#link(name, good, prepared, directory)
    } else if (change === 'save') {
      await this.#record(name, good, isGood, async () => {
        if (!isGood) await this.#clear(directory)
        await savePretrained(adapterOf(version), directory, { dtype: version.dtype })
      })
    } else if (change === 'overwrite' && content.type === 'good') {
      await this.#overwrite(name, content.version, directory, random)
    } else if (change === 'cut off') {
      const bytes = random.below(filesOf(content as Content & { type: 'good' }).model.length - 1)
      const file = random.chance(0.7) ? MODEL_FILE : CONFIG_FILE
      await this.#record(name, { type: 'broken', how: `${file} cut off at ${bytes}` }, false, () =>
        truncate(join(directory, file), file === MODEL_FILE ? bytes : bytes % 50),
      )
    } else if (change === 'malicious') {
      const [how, write] = random.pick(MALICIOUS)
      await this.#record(name, { type: 'broken', how }, false, () => write(directory, version))
    } else if (change === 'delete') {
      await this.#record(name, { type: 'absent' }, false, () => this.#clear(directory))
    }
  }

  #contentOf(name: string): Content {
    return (this.#histories.get(name) as State[]).at(-1)?.content ?? { type: 'absent' }
  }

  #nextVersion(old: Version | undefined, random: Random): Version {
    const initialSeed = ++this.#lastVersion
    const dtype = random.pick(['F32', 'F16'] as const)
    if (old && random.chance(0.7)) return { ...old, dtype, initialSeed }
    const { targets } = MODELS[this.model]
    return {
      model: this.model,
      seed: random.below(this.population.seeds),
      targets: random.below(targets.length),
      dtype,
      initialSeed,
    }
  }

  /** Notes when a change begins and ends. */
  async #record(
    name: string,
    content: Content,
    isAtomic: boolean,
    change: () => void | Promise<void>,
  ): Promise<void> {
    const state = { content, begin: performance.now(), end: Number.POSITIVE_INFINITY, isAtomic }
    this.#histories.get(name)?.push(state)
    await change()
    state.end = performance.now()
  }

  #newPath(): string {
    return join(this.#store, String(++this.#lastPath))
  }

  async #prepare(version: Version): Promise<string> {
    const path = this.#newPath()
    const { config, model } = bytesOf(version)
    await mkdir(path)
    await writeFile(join(path, CONFIG_FILE), config)
    await writeFile(join(path, MODEL_FILE), model)
    return path
  }

  async #clear(directory: string): Promise<void> {
    const old = this.#newPath()
    await rename(directory, old).catch(ignoreMissing)
    await rm(old, { recursive: true, force: true })
  }

  async #swap(prepared: string, directory: string): Promise<void> {
    const old = this.#newPath()
    await rename(directory, old).catch(ignoreMissing)
    await rename(prepared, directory)
    await rm(old, { recursive: true, force: true })
  }

  /** As Kubernetes changes volumes: a new symbolic link replaces the old one. */
  async #link(name: string, content: Content, prepared: string, directory: string): Promise<void> {
    const link = this.#newPath()
    await symlink(prepared, link)
    const isLink = await isSymbolicLink(directory)
    // A link cannot replace a folder, so a folder has to leave first.
    await this.#record(name, content, isLink, async () => {
      if (!isLink) await this.#clear(directory)
      await rename(link, directory)
    })
  }

  /** Writes new numbers over the old ones, in two halves: between them the file has numbers of both. */
  async #overwrite(name: string, old: Version, directory: string, random: Random): Promise<void> {
    const version = { ...old, initialSeed: ++this.#lastVersion }
    const content = this.#contentOf(name)
    if (content.type !== 'good' || content.rest) return
    const { model } = bytesOf(version)
    const half = model.length >> 1
    const file = openSync(join(directory, MODEL_FILE), 'r+')
    try {
      await this.#record(name, { type: 'good', version, rest: old }, true, () => {
        writeSync(file, model, 0, half, 0)
      })
      if (random.chance(0.3)) await sleep(random.below(120))
      await this.#record(name, { type: 'good', version }, true, () => {
        writeSync(file, model, half, model.length - half, half)
      })
    } finally {
      closeSync(file)
    }
  }
}

async function isSymbolicLink(path: string): Promise<boolean> {
  return lstat(path).then(
    (stats) => stats.isSymbolicLink(),
    () => false,
  )
}

function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT') throw error
}

function withHeader(header: string, length = header.length, data = 256): Uint8Array {
  const bytes = new Uint8Array(8 + header.length + data)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true)
  bytes.set(new TextEncoder().encode(header), 8)
  return bytes
}

const NAME = 'base_model.model.bert.encoder.layer.0.attention.self.query.fourierft_spectrum'
const tensor = (shape: readonly number[], begin: number, end: number, dtype = 'F32') =>
  JSON.stringify({ [NAME]: { dtype, shape, data_offsets: [begin, end] } })

const model = (how: string, bytes: Uint8Array | string) =>
  [how, (directory: string) => writeFile(join(directory, MODEL_FILE), bytes)] as const
const config = (how: string, value: object | string) =>
  [
    how,
    (directory: string) =>
      writeFile(join(directory, CONFIG_FILE), typeof value === 'string' ? value : JSON.stringify(value)),
  ] as const

const CONFIG = {
  peft_type: 'FOURIERFT',
  n_frequency: 24,
  scaling: 150,
  random_loc_seed: 1000,
  target_modules: ['query', 'value'],
}

/** Files that someone could write to harm the server. */
const MALICIOUS: readonly (readonly [string, (directory: string, version: Version) => Promise<void>])[] = [
  [
    'numbers that overflow',
    async (directory, version) => {
      const { config, model } = overflowing(version)
      await writeFile(join(directory, MODEL_FILE), '')
      await writeFile(join(directory, CONFIG_FILE), config)
      await writeFile(join(directory, MODEL_FILE), model)
    },
  ],
  model('a header of 2^62 bytes', withHeader('{}', 2 ** 62)),
  model('a header longer than the file', withHeader('{}', 100_000)),
  model('a header of nested lists', withHeader('['.repeat(200_000))),
  model('no header', ''),
  model('offsets after the end', withHeader(tensor([24], 0, 1_000_000))),
  model('a shape of 2^62 elements', withHeader(tensor([2 ** 31, 2 ** 31], 0, 96))),
  model('negative offsets', withHeader(tensor([24], -96, 0))),
  model('an unknown dtype', withHeader(tensor([24], 0, 96, 'F31'))),
  model('a pickle', new Uint8Array([0x80, 2, 0x63, 0x6f, 0x73])),
  config('a configuration of another method', { ...CONFIG, peft_type: 'LORA' }),
  config('2^40 entries', { ...CONFIG, n_frequency: 2 ** 40 }),
  config('a pattern that takes exponential time', { ...CONFIG, target_modules: '(.*a)*(.*b)*(.*c)*(.+)+x' }),
  config('a prototype', '{"__proto__":{"peft_type":"FOURIERFT"},"peft_type":7}'),
  config('a text without an end', '{"peft_type":"FOURIERFT","target_modules":"'.padEnd(100_000, 'a')),
  config('a configuration of nested objects', '{"a":'.repeat(100_000)),
  [
    'a sparse file of 2^40 bytes',
    async (directory) => {
      await truncate(join(directory, MODEL_FILE), 2 ** 40)
    },
  ],
  [
    'a folder instead of a file',
    async (directory) => {
      await rm(join(directory, MODEL_FILE))
      await mkdir(join(directory, MODEL_FILE))
    },
  ],
  [
    'a link to a device without an end',
    async (directory) => {
      await rm(join(directory, MODEL_FILE))
      await symlink('/dev/zero', join(directory, MODEL_FILE))
    },
  ],
  [
    'a link to itself',
    async (directory) => {
      await rm(join(directory, CONFIG_FILE))
      await symlink(CONFIG_FILE, join(directory, CONFIG_FILE))
    },
  ],
  [
    'a pipe that nobody writes to',
    async (directory) => {
      await rm(join(directory, MODEL_FILE))
      execFileSync('mkfifo', [join(directory, MODEL_FILE)])
    },
  ],
]
