/**
 * `AdapterCache`: the adapters in memory. They are loaded at their first use, and keep their place by least recent use. A call holds its adapter by
 * reference, so one that leaves the cache stays valid for the calls that have it.
 */
import { freemem } from 'node:os'
import { type Adapter, FourierFTError, unlessAborted } from '@fourierft/core'
import { adapterNotFound } from './adapter-name.js'
import { invalidAdapter, ServerError } from './errors.js'
import type { FoundAdapter, Resolver } from './resolver/resolver.js'

/** What the cache must know of an adapter in memory. */
export interface Resident {
  /** The memory that it takes. */
  readonly bytes: number
}

/** What happens in the cache, for metrics and for whoever keeps something for each adapter. */
export interface AdapterCacheEvents<R extends Resident> {
  /** A request found its adapter in memory. */
  hit?(): void
  /** A request has to wait for a load. */
  miss?(): void
  /** A load has ended. */
  loaded?(name: string, seconds: number, result: 'loaded' | 'failed'): void
  /** An adapter has left the cache: for lack of memory, or because its files have changed or are gone. */
  removed?(name: string, resident: R, reason: 'evicted' | 'changed'): void
}

export interface AdapterCacheOptions<R extends Resident> {
  readonly resolver: Resolver
  /** Makes the form in memory of an adapter that was read: matches it to the model. */
  readonly make: (name: string, adapter: Adapter, signal: AbortSignal) => Promise<R>
  /** Bytes for all adapters. Default: a quarter of the memory that the process can still take when the cache is made. */
  readonly memory?: number | undefined
  /** Names that never leave the cache for lack of memory. */
  readonly pinned?: Iterable<string> | undefined
  readonly events?: AdapterCacheEvents<R> | undefined
}

/** Most broken adapters whose errors are remembered. */
const MAX_FAILURES = 1000
/** Milliseconds for which a source that could not be read is not read again. */
const RETRY_MS = 1000
/** Most bytes of adapters that were read, but still wait for their graphs. */
const MAX_WAITING_BYTES = 256 * 2 ** 20
/** Most adapters that are loaded at the same time: each may take the memory of its files several times. */
const MAX_LOADS = 16

interface Entry<R> {
  readonly version: string
  readonly resident: R
}

interface Load<R> {
  readonly version: string
  readonly result: Promise<R>
  readonly controller: AbortController
  waiting: number
}

interface Failure {
  readonly version: string
  readonly error: unknown
  readonly until: number
}

export class AdapterCache<R extends Resident> {
  readonly memory: number
  readonly #resolver: Resolver
  readonly #make: AdapterCacheOptions<R>['make']
  readonly #events: AdapterCacheEvents<R>
  readonly #pinned: Set<string>
  /** In the order of their last use, the oldest first. */
  readonly #entries = new Map<string, Entry<R>>()
  readonly #loads = new Map<string, Load<R>>()
  readonly #failures = new Map<string, Failure>()
  readonly #slots = new Slots(MAX_LOADS)
  #bytes = 0
  #waitingBytes = 0

  constructor({
    resolver,
    make,
    memory = defaultMemory(),
    pinned = [],
    events = {},
  }: AdapterCacheOptions<R>) {
    this.memory = memory
    this.#resolver = resolver
    this.#make = make
    this.#pinned = new Set(pinned)
    this.#events = events
  }

  /** Number of adapters in memory. */
  get size(): number {
    return this.#entries.size
  }

  /** Memory that the adapters take. */
  get bytes(): number {
    return this.#bytes
  }

  /** Names of the adapters in memory, the least recently used first. */
  names(): IterableIterator<string> {
    return this.#entries.keys()
  }

  isResident(name: string): boolean {
    return this.#entries.has(name)
  }

  isPinned(name: string): boolean {
    return this.#pinned.has(name)
  }

  /** Keeps an adapter in memory from its next load on, or the one that is there. */
  pin(name: string): void {
    this.#pinned.add(name)
  }

  unpin(name: string): void {
    this.#pinned.delete(name)
    // An adapter that was too large beside the pinned ones may have room now.
    this.#failures.clear()
  }

  /** Removes an adapter from memory, and forgets its failure. A load in progress ends for those who wait for it, but is not kept. */
  forget(name: string): void {
    this.#failures.delete(name)
    this.#loads.delete(name)
    this.#remove(name, 'changed')
  }

  /**
   * Returns an adapter in its current version, and loads it if necessary.
   *
   * @param signal ends this call, not a load for which others wait
   * @throws {ServerError} `model_not_found`, `invalid_adapter`, `adapter_too_large`, and the errors of `make`
   */
  async get(name: string, signal: AbortSignal): Promise<R> {
    const found = await this.#resolver.find(name, signal)
    if (found === undefined) {
      this.forget(name)
      throw adapterNotFound(name)
    }
    const { version } = found
    const entry = this.#entries.get(name)
    if (entry?.version === version) {
      this.#entries.delete(name)
      this.#entries.set(name, entry)
      this.#events.hit?.()
      return entry.resident
    }
    this.#events.miss?.()
    const failure = this.#failures.get(name)
    if (failure?.version === version && Date.now() < failure.until) throw failure.error
    const current = this.#loads.get(name)
    return this.#wait(name, current?.version === version ? current : this.#start(name, found), signal)
  }

  /** Waits for a load. It is aborted if nobody waits for it any more. */
  async #wait(name: string, load: Load<R>, signal: AbortSignal): Promise<R> {
    load.waiting++
    try {
      return await unlessAborted(load.result, signal)
    } finally {
      load.waiting--
      if (load.waiting === 0) {
        if (this.#loads.get(name) === load) this.#loads.delete(name)
        load.controller.abort()
      }
    }
  }

  #start(name: string, found: FoundAdapter): Load<R> {
    const controller = new AbortController()
    const isCurrent = () => this.#loads.get(name) === load
    const result = this.#load(name, found, controller.signal, isCurrent)
    const load: Load<R> = { version: found.version, result, controller, waiting: 0 }
    this.#loads.set(name, load)
    return load
  }

  /** @param isCurrent whether the result is still wanted: no newer version, not forgotten, not abandoned */
  async #load(name: string, found: FoundAdapter, signal: AbortSignal, isCurrent: () => boolean): Promise<R> {
    const free = await this.#slots.take()
    const start = performance.now()
    const seconds = () => (performance.now() - start) / 1000
    try {
      signal.throwIfAborted()
      const adapter = await found.read(signal)
      // `make` may wait for a graph. Adapters whose graphs are open must not wait for that.
      free()
      const resident = await this.#whileWaiting(adapter, () => this.#make(name, adapter, signal))
      signal.throwIfAborted()
      this.#checkSize(name, resident.bytes)
      if (isCurrent()) this.#keep(name, { version: found.version, resident })
      this.#events.loaded?.(name, seconds(), 'loaded')
      return resident
    } catch (cause) {
      if (signal.aborted) throw cause
      const error = errorFor(name, cause)
      if (isCurrent()) {
        // The adapter that is in memory belongs to files that no longer exist.
        this.#remove(name, 'changed')
        this.#rememberFailure(name, found.version, error, cause)
      }
      this.#events.loaded?.(name, seconds(), 'failed')
      throw error
    } finally {
      free()
      if (isCurrent()) this.#loads.delete(name)
    }
  }

  /** Bounds the memory of adapters that were read, but are not in the cache yet. */
  async #whileWaiting(adapter: Adapter, make: () => Promise<R>): Promise<R> {
    const bytes = sizeOf(adapter)
    if (this.#waitingBytes > 0 && this.#waitingBytes + bytes > MAX_WAITING_BYTES)
      throw new ServerError('queue_full', 'too many adapters are being loaded', { retryAfter: 5 })
    this.#waitingBytes += bytes
    try {
      return await make()
    } finally {
      this.#waitingBytes -= bytes
    }
  }

  #checkSize(name: string, bytes: number): void {
    let pinnedBytes = 0
    for (const pinned of this.#pinned)
      if (pinned !== name) pinnedBytes += this.#entries.get(pinned)?.resident.bytes ?? 0
    if (bytes <= this.memory - pinnedBytes) return
    const pins = pinnedBytes > 0 ? `, of which pinned adapters take ${pinnedBytes}` : ''
    throw new ServerError(
      'adapter_too_large',
      `adapter '${name}': it takes ${bytes} bytes of memory; the server has ${this.memory} for all adapters${pins}`,
      { param: 'model' },
    )
  }

  #keep(name: string, entry: Entry<R>): void {
    this.#failures.delete(name)
    this.#remove(name, 'changed')
    this.#entries.set(name, entry)
    this.#bytes += entry.resident.bytes
    for (const oldest of this.#entries.keys()) {
      if (this.#bytes <= this.memory) break
      if (oldest !== name && !this.#pinned.has(oldest)) this.#remove(oldest, 'evicted')
    }
  }

  #remove(name: string, reason: 'evicted' | 'changed'): void {
    const entry = this.#entries.get(name)
    if (entry === undefined) return
    this.#entries.delete(name)
    this.#bytes -= entry.resident.bytes
    this.#events.removed?.(name, entry.resident, reason)
  }

  #rememberFailure(name: string, version: string, error: unknown, cause: unknown): void {
    const duration = durationOf(cause)
    if (duration === 0) return
    this.#failures.delete(name)
    this.#failures.set(name, { version, error, until: Date.now() + duration })
    for (const oldest of this.#failures.keys()) {
      if (this.#failures.size <= MAX_FAILURES) break
      this.#failures.delete(oldest)
    }
  }
}

/** Returns the error of a failed load for clients. Errors that do not come from the adapter's files stay as they are. */
function errorFor(name: string, cause: unknown): unknown {
  if (!FourierFTError.isInstance(cause) || cause.code === 'INVALID_STATE') return cause
  return cause.code === 'FILE_NOT_FOUND' ? adapterNotFound(name) : invalidAdapter(name, cause)
}

/** Returns the milliseconds for which a failure stays: that of the files' contents, until they change. */
function durationOf(cause: unknown): number {
  if (cause instanceof ServerError) {
    if (cause.code === 'adapter_too_large') return Number.POSITIVE_INFINITY
    return cause.code === 'invalid_adapter' || cause.code === 'too_many_groups' ? RETRY_MS : 0
  }
  if (!FourierFTError.isInstance(cause) || cause.code === 'INVALID_STATE') return 0
  return cause.code === 'FILE_NOT_FOUND' || cause.code === 'IO_ERROR' ? RETRY_MS : Number.POSITIVE_INFINITY
}

function defaultMemory(): number {
  // Unlike `freemem`, it knows the limit of a container. Not every runtime has it.
  const available = typeof process.availableMemory === 'function' ? process.availableMemory() : freemem()
  return Math.floor(available / 4)
}

/** The bytes of an adapter's numbers. */
function sizeOf({ modules, savedTensors }: Adapter): number {
  const sizes = [
    ...Array.from(modules.values(), ({ coefficients }) => coefficients.byteLength),
    ...Array.from(savedTensors.values(), ({ bytes }) => bytes.length),
  ]
  return sizes.reduce((sum, size) => sum + size, 0)
}

/** Bounds how much is done at the same time. */
class Slots {
  #free: number
  readonly #waiting: (() => void)[] = []

  constructor(count: number) {
    this.#free = count
  }

  /** Waits for a slot. @returns gives it back; later calls do nothing */
  async take(): Promise<() => void> {
    if (this.#free > 0) this.#free--
    else await new Promise<void>((resolve) => this.#waiting.push(resolve))
    let isTaken = true
    return () => {
      if (!isTaken) return
      isTaken = false
      const next = this.#waiting.shift()
      if (next) next()
      else this.#free++
    }
  }
}
