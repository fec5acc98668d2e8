/** `createEngine`: an `Engine` for a model of transformers.js. It gives each call a view of the pipeline whose runs share batches with those of other calls. */
import { pathToFileURL } from 'node:url'
import { type Adapter, type FloatArray, type Layer, unlessAborted } from '@fourierft/core'
import {
  type ApplicableAdapter,
  attach,
  type ClassLabels,
  type DividedAdapter,
  type ModelAdapters,
  type ModelPart,
  type ReplacedModule,
  type RunArguments,
  type Serving,
} from '@fourierft/transformers/host'
import { env, LogLevel } from '@huggingface/transformers'
import type { InferenceSession } from 'onnxruntime-common'
import { AdapterCache, type AdapterCacheEvents } from './adapter-cache.js'
import { adapterNotFound } from './adapter-name.js'
import { Batcher, type BatchFacts } from './batcher.js'
import { CallSlots } from './call-slots.js'
import type { CallOptions, Engine, Joining, ListedAdapter, Pipe } from './engine.js'
import { ServerError } from './errors.js'
import { type Group, Groups } from './groups.js'
import { isFolder } from './is-folder.js'
import type { Metrics } from './metrics.js'
import { probe } from './probe.js'
import { Layouts, ResidentAdapter } from './resident-adapter.js'
import { functionResolver } from './resolver/function.js'
import type { FoundAdapter, Resolver } from './resolver/resolver.js'

export interface EngineOptions {
  /** The name of the base model in the APIs. Default: the task of the pipeline. */
  readonly name?: string | undefined
  /** Finds adapters. Without it there is only the base model. */
  readonly resolver?: Resolver | undefined
  /** The most bytes of adapters in memory. Default: see `AdapterCache`. */
  readonly memory?: number | undefined
  /** Adapters that are loaded at the start and stay in memory. */
  readonly pinned?: readonly string[] | undefined
  /** The most rows of a batch. Default 32. */
  readonly maxBatch?: number | undefined
  /** The most positions (rows times length) of a batch of several requests. Default 8192. */
  readonly maxBatchTokens?: number | undefined
  /** The most requests that wait or run. Default 1024. */
  readonly maxQueue?: number | undefined
  /** The most graphs of the model, for adapters of different kinds. Each takes as much memory as the model. Default 8. */
  readonly maxGroups?: number | undefined
  /** Whether to use the native kernel; see `attach` of `@fourierft/transformers`. */
  readonly native?: 'auto' | boolean | undefined
  readonly metrics?: Metrics | undefined
  /** Whether `close` disposes of the pipeline. Default: it does not; the pipeline can then be used without adapters again. */
  readonly ownsPipeline?: boolean | undefined
  /** Is called after each batch. */
  readonly onBatch?: ((batch: BatchFacts) => void) | undefined
}

/** Tasks whose calls run the model many times, and keep a cache for each request. */
const GENERATING: readonly string[] = [
  'text-generation',
  'text2text-generation',
  'summarization',
  'translation',
]

/**
 * Makes an engine of a pipeline. The pipeline must not be used directly until the engine is closed. Turns the logs of transformers.js off, because they contain the
 * inputs of failed runs.
 *
 * @throws {FourierFTError} as `attach`; `ServerError` for pinned adapters that cannot be loaded
 */
export async function createEngine(pipe: Pipe, options: EngineOptions = {}): Promise<ModelEngine> {
  const { native = 'auto' } = options
  // transformers.js logs the inputs of runs that fail.
  env.logLevel = LogLevel.NONE
  const adapters = await attach(pipe as unknown as Parameters<typeof attach>[0], { native })
  try {
    return await ModelEngine.open(pipe, adapters, options)
  } catch (error) {
    await adapters.detach()
    throw error
  }
}

/** An adapter as runs need it, part by part. */
type Shares = ReadonlyMap<ModelPart, ApplicableAdapter>

/** An adapter in memory and the group that runs it. */
interface Resident {
  readonly adapter: ResidentAdapter<ModelPart>
  readonly group: Group
  readonly bytes: number
}

export class ModelEngine implements Engine {
  readonly model: string
  readonly task: string
  readonly pipe: Pipe
  readonly created = Date.now()
  readonly #adapters: ModelAdapters
  readonly #serving: Serving
  readonly #groups: Groups
  readonly #batcher: Batcher<Shares>
  readonly #slots: CallSlots
  readonly #cache: AdapterCache<Resident>
  readonly #layouts = new Layouts<ModelPart>()
  readonly #resolver: Resolver | undefined
  /** The adapters that `load` added, by name. */
  readonly #loaded = new Map<string, Resolver['find']>()
  /** The calls in progress. */
  readonly #calls = new Set<AbortController>()
  readonly #metrics: Metrics | undefined
  readonly #ownsPipeline: boolean
  #isReady = false
  #closing: Promise<void> | undefined

  private constructor(
    pipe: Pipe,
    adapters: ModelAdapters,
    groups: Groups,
    {
      name,
      resolver,
      memory,
      pinned,
      maxBatch = 32,
      maxBatchTokens = 8192,
      maxQueue = 1024,
      metrics,
      onBatch,
      ownsPipeline = false,
    }: EngineOptions,
  ) {
    this.pipe = pipe
    this.task = pipe.task
    this.model = name ?? pipe.task
    this.#adapters = adapters
    this.#serving = adapters.serving
    this.#groups = groups
    this.#resolver = resolver
    this.#metrics = metrics
    this.#ownsPipeline = ownsPipeline
    const isGenerating = GENERATING.includes(pipe.task)
    this.#slots = new CallSlots({
      maxCalls: maxQueue,
      // Each generating call keeps a cache of keys and values.
      maxRunning: isGenerating ? maxBatch : maxQueue,
    })
    this.#batcher = new Batcher({
      maxBatch,
      maxBatchTokens,
      expected: () => this.#slots.active,
      run: ({ part, group }, perRow, args) => this.#runRows(part, group as Group, perRow, args),
      onBatch: (batch) => {
        const { rows, length, filled, seconds } = batch
        // An error of the callback must not end the batcher.
        if (onBatch) queueMicrotask(() => onBatch(batch))
        metrics?.batchRows.observe(rows)
        metrics?.batchSeconds.observe(seconds)
        metrics?.tokens.inc(rows * length)
        metrics?.paddingTokens.inc(rows * length - filled)
        metrics?.queueLength.set(this.#batcher.waiting + this.#slots.waiting)
        metrics?.groups.set(this.#groups.size)
      },
    })
    this.#cache = new AdapterCache<Resident>({
      resolver: { find: (name, signal) => this.#find(name, signal) },
      memory,
      pinned,
      make: (name, adapter) => this.#makeResident(name, adapter),
      ...(metrics && { events: this.#count(metrics) }),
    })
  }

  /** Called by `createEngine`. */
  static async open(pipe: Pipe, adapters: ModelAdapters, options: EngineOptions): Promise<ModelEngine> {
    const { serving } = adapters
    await serving.host.useNativeSessions()
    const groups = await Groups.open({
      serving,
      maxGroups: options.maxGroups ?? 8,
      probe: (graphs, adapter) =>
        probe({
          serving,
          pipe,
          labels: adapter?.labels,
          run: (part, feeds) =>
            serving.host.runRows(part, graphs?.get(part), [neutral(part, adapter)], [
              feeds,
            ] as unknown as RunArguments),
        }),
    })
    const engine = new ModelEngine(pipe, adapters, groups, options)
    for (const name of options.pinned ?? []) await engine.#prepare(name, new AbortController().signal)
    engine.#isReady = true
    return engine
  }

  get isReady(): boolean {
    return this.#isReady && !this.#closing && !this.#serving.host.isClosed
  }

  get joining(): Joining {
    const joinings = Array.from(this.#groups.base.joinings.values(), ({ joining }) => joining)
    return (['single', 'equal'] as const).find((joining) => joinings.includes(joining)) ?? 'padded'
  }

  get signature(): Engine['signature'] {
    const part = this.#onlyPart
    if (part === undefined) return undefined
    const { inputMetadata, outputMetadata } = part.host.signature
    return { inputs: inputMetadata, outputs: outputMetadata }
  }

  /** Undefined if the model has several sessions. */
  get #onlyPart(): ModelPart | undefined {
    const [part, ...others] = this.#serving.parts
    return others.length === 0 ? part : undefined
  }

  async call<T>(name: string | null, work: (pipe: Pipe) => Promise<T>, { signal }: CallOptions): Promise<T> {
    return this.#enter(name, signal, (signal, group, shares, labels) => {
      const view = this.#serving.view((part, args) => this.#submit(part, shares, group, args, signal), labels)
      return work(view as unknown as Pipe)
    })
  }

  async run(
    name: string | null,
    feeds: InferenceSession.FeedsType,
    { signal }: CallOptions,
  ): Promise<InferenceSession.ReturnType> {
    const part = this.#onlyPart
    if (part === undefined)
      throw new ServerError(
        'unsupported_task',
        'the model has several sessions, so its tensors cannot be fed directly',
      )
    return this.#enter(name, signal, (signal, group, shares) =>
      this.#submit(part, shares, group, [feeds] as unknown as RunArguments, signal),
    )
  }

  async prepare(name: string, { signal }: CallOptions): Promise<void> {
    await this.#admit(signal, (signal) => this.#prepare(name, signal))
  }

  async list(): Promise<readonly ListedAdapter[]> {
    const listed = (await this.#resolver?.list?.()) ?? []
    const modified = new Map<string, number | undefined>(listed.map((found) => [found.name, found.modified]))
    for (const name of [...this.#loaded.keys(), ...this.#cache.names()])
      if (!modified.has(name)) modified.set(name, undefined)
    return Array.from(modified, ([name, modified]) => ({
      name,
      modified,
      isResident: this.#cache.isResident(name),
      isPinned: this.#cache.isPinned(name),
    }))
  }

  async load(name: string, source: string, { signal }: CallOptions): Promise<void> {
    await this.#admit(signal, async (signal) => {
      const found = await this.#sourceOf(source, signal)
      const old = this.#loaded.get(name)
      this.#loaded.set(name, found)
      this.#cache.forget(name)
      try {
        await this.#prepare(name, signal)
      } catch (error) {
        if (old === undefined) this.#loaded.delete(name)
        else this.#loaded.set(name, old)
        throw error
      }
    })
  }

  async unload(name: string): Promise<void> {
    if (!this.#loaded.delete(name)) throw adapterNotFound(name)
    this.#cache.forget(name)
  }

  close(gracePeriod = 30_000): Promise<void> {
    this.#closing ??= this.#close(gracePeriod)
    return this.#closing
  }

  async #close(gracePeriod: number): Promise<void> {
    await this.#slots.close(gracePeriod)
    // Calls that are still there must not go on without their adapters.
    for (const call of this.#calls) call.abort(shuttingDown())
    await this.#groups.close()
    if (this.#ownsPipeline) await this.pipe.model.dispose()
    else await this.#adapters.detach()
  }

  /** Finds an adapter: one that was loaded by name, or one of the resolver's. */
  async #find(name: string, signal: AbortSignal): Promise<FoundAdapter | undefined> {
    const find = this.#loaded.get(name)
    return find ? find(name, signal) : this.#resolver?.find(name, signal)
  }

  /** Finds the source of `load`: a folder, or another name of an adapter that the resolver finds. */
  async #sourceOf(source: string, signal: AbortSignal): Promise<Resolver['find']> {
    if (await isFolder(source)) return functionResolver(() => pathToFileURL(source)).find
    const resolver = this.#resolver
    if (resolver && (await resolver.find(source, signal))) return (_, signal) => resolver.find(source, signal)
    throw new ServerError(
      'invalid_value',
      `${source} is neither a folder of this server nor an adapter that it finds`,
      {
        param: 'lora_path',
      },
    )
  }

  #count(metrics: Metrics): AdapterCacheEvents<Resident> {
    const update = () => {
      metrics.residentAdapters.set(this.#cache.size)
      metrics.residentBytes.set(this.#cache.bytes)
      metrics.groups.set(this.#groups.size)
    }
    return {
      hit: () => metrics.adapterLookups.inc({ result: 'hit' }),
      miss: () => metrics.adapterLookups.inc({ result: 'miss' }),
      loaded: (_, seconds, result) => {
        metrics.adapterLoads.inc({ result })
        metrics.adapterLoadSeconds.observe(seconds)
        update()
      },
      removed: (_, __, reason) => {
        if (reason === 'evicted') metrics.adapterEvictions.inc()
        update()
      },
    }
  }

  #checkOpen(): void {
    if (this.#closing) throw shuttingDown()
  }

  /** Begins a call: loads the adapter, waits for a slot, and keeps the adapter's group open until the call ends. */
  async #enter<T>(
    name: string | null,
    outer: AbortSignal,
    work: (
      signal: AbortSignal,
      group: Group,
      shares: Shares | null,
      labels: ClassLabels | undefined,
    ) => Promise<T>,
  ): Promise<T> {
    return this.#admit(outer, async (signal) => {
      const resident = name === null ? undefined : await this.#acquire(name, signal)
      const group = resident?.group ?? this.#groups.base
      if (resident === undefined) group.users++
      try {
        const { shares = null, labels } = resident?.adapter ?? {}
        return await this.#slots.run(signal, () => unlessAborted(work(signal, group, shares, labels), signal))
      } finally {
        group.users--
        group.lastUse = performance.now()
      }
    })
  }

  /** Counts a call until it ends. Its signal is also aborted when the engine ends. */
  async #admit<T>(outer: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    this.#checkOpen()
    outer.throwIfAborted()
    const controller = new AbortController()
    const abort = () => controller.abort(outer.reason)
    outer.addEventListener('abort', abort, { once: true })
    this.#calls.add(controller)
    try {
      return await this.#slots.admit(() => work(controller.signal))
    } finally {
      outer.removeEventListener('abort', abort)
      this.#calls.delete(controller)
      this.#metrics?.queueLength.set(this.#batcher.waiting + this.#slots.waiting)
    }
  }

  /** Returns an adapter whose group is open. The caller must release the group: `users` counts it. */
  async #acquire(name: string, signal: AbortSignal): Promise<Resident> {
    for (;;) {
      const resident = await this.#cache.get(name, signal)
      if (!resident.group.isClosed) {
        resident.group.users++
        return resident
      }
      this.#cache.forget(name)
    }
  }

  /** Loads an adapter. */
  async #prepare(name: string, signal: AbortSignal): Promise<void> {
    const { group } = await this.#acquire(name, signal)
    group.users--
  }

  async #makeResident(name: string, source: Adapter): Promise<Resident> {
    const { host } = this.#serving
    const divided = await host.match(name, source)
    checkRange(name, divided)
    const group = await this.#groups.groupFor(divided)
    const adapter = new ResidentAdapter(name, divided, this.#layouts)
    return { adapter, group, bytes: adapter.bytes }
  }

  #submit(
    part: ModelPart,
    adapter: Shares | null,
    group: Group,
    args: RunArguments,
    signal: AbortSignal,
  ): Promise<InferenceSession.ReturnType> {
    return this.#batcher.run({
      part,
      group,
      joiner: group.joinings.get(part)?.joiner,
      heads: headSizes(adapter?.get(part)),
      args,
      adapter,
      signal,
    })
  }

  #runRows(
    part: ModelPart,
    group: Group,
    perRow: readonly (Shares | null)[],
    args: RunArguments,
  ): Promise<InferenceSession.ReturnType> {
    const rows = perRow.map((shares) => {
      const adapter = shares?.get(part)
      return adapter ? { adapter, scale: 1 } : null
    })
    return this.#serving.host.runRows(part, group.graphs?.get(part), rows, args)
  }
}

/**
 * Returns an adapter with the layers of this one but small numbers of its own, for the probe: the numbers of one adapter must not decide how all others are
 * joined.
 */
function neutral(part: ModelPart, adapter: DividedAdapter | undefined) {
  const share = adapter?.shares.get(part)
  if (share === undefined) return null
  const wave = (numbers: FloatArray | undefined) =>
    numbers && Float32Array.from(numbers, (_, i) => 0.05 * Math.sin(i))
  const layers = Array.from(share.layers, ([key, layer]): [string, Layer] => [
    key,
    { ...layer, scaling: 1, coefficients: wave(layer.coefficients) as Float32Array },
  ])
  const replacedModules = Array.from(share.replacedModules, ([key, replaced]): [string, ReplacedModule] => [
    key,
    { ...replaced, weight: wave(replaced.weight) as Float32Array, bias: wave(replaced.bias) },
  ])
  const { name, replaces } = share
  return {
    adapter: { name, replaces, layers: new Map(layers), replacedModules: new Map(replacedModules) },
    scale: 1,
  }
}

/** @throws {ServerError} `invalid_adapter` if scaled coefficients exceed float32: they would make every batch with the adapter fail */
function checkRange(name: string, { shares }: DividedAdapter): void {
  for (const { layers } of shares.values())
    for (const { name: module, coefficients, scaling } of layers.values())
      if (!coefficients.every((c) => Number.isFinite(Math.fround(c * scaling))))
        throw new ServerError(
          'invalid_adapter',
          `adapter '${name}': module ${module}: coefficients times scaling (${scaling}) exceed the range of float32`,
          { param: 'model' },
        )
}

/** The sizes of the layers that an adapter replaces in a part. Rows of one batch must agree in them. */
function headSizes(adapter: ApplicableAdapter | undefined): string {
  return Array.from(adapter?.replacedModules ?? [], ([key, { weight }]) => `${key}:${weight.length}`).join(
    ' ',
  )
}

function shuttingDown(): ServerError {
  return new ServerError('shutting_down', 'the server is shutting down', { retryAfter: 5 })
}
