/**
 * A session of ONNX Runtime with adapters: it is used as the ordinary one, and has PEFT's verbs. It keeps one graph whose branches serve
 * all loaded adapters; the session of that graph is made anew only where an adapter needs a branch or an entry that it does not have.
 */
import {
  Adapter,
  type AdapterSource,
  adapterNotFound,
  checkNames,
  checkNewName,
  FourierFTError,
  invalidState,
  type LoadAdapterOptions,
  listOfNames,
  loadAdapter,
} from '@fourierft/core'
import type { InferenceSession, Tensor } from 'onnxruntime-common'
import type { AdaptedGraph, Choice } from './adapted-graph.js'
import { feedsError } from './feeds-error.js'
import {
  EMPTY_PLAN,
  findPlaces,
  type LayerPlace,
  type Merge,
  modulesOf,
  type PlacedAdapter,
  placeAdapter,
  planFor,
} from './layer-places.js'
import type { ModelSessions } from './model-sessions.js'
import type { OpenModel } from './model-source.js'
import { type ModuleNames, withoutAbsent } from './module-names.js'

type Feeds = InferenceSession.FeedsType
type Fetches = InferenceSession.FetchesType

export interface RunOptions extends InferenceSession.RunOptions {
  /** For each of as many equal parts of the batch (usually each row) its adapter, null for none; instead of the active ones. */
  readonly adapters?: readonly (string | null)[]
}

const ENDED = 'the session was released; load the model again'

/** What `createSession` knows. */
export interface SessionParts {
  readonly sessions: ModelSessions
  readonly moduleNames: ModuleNames
  readonly nativeProblem: string | undefined
  /** Whether the runtime allows one run at a time, as it does on the web. */
  readonly runsAlone: boolean
}

/** The model's own inputs and outputs, which no adapter changes. */
type Signature = Pick<InferenceSession, 'inputNames' | 'outputNames' | 'inputMetadata' | 'outputMetadata'>

interface Merged {
  readonly names: readonly string[]
  readonly graph: AdaptedGraph
}

export class AdaptedSession {
  /** Why the native kernel does not serve here; undefined where it does. */
  readonly nativeProblem: string | undefined
  readonly #parts: SessionParts
  readonly #adapters = new Map<string, PlacedAdapter>()
  readonly #places = new Map<string, LayerPlace>()
  readonly #signature: Signature
  #graph: AdaptedGraph
  /** While no graph is open, for another one takes its place: until it is. */
  #opening: Promise<void> | undefined
  #merged: Merged | undefined
  /** Counts what `mergeAdapter` must not miss while it makes its session. */
  #changes = 0
  #active: readonly string[] = []
  #enabled = true
  #perRow: readonly (string | null)[] | undefined
  /** Why nothing can be done any more. */
  #ended: string | undefined
  /** Sessions are made one after the other; so do runs on the web follow one another. */
  #lastLoad: Promise<unknown> = Promise.resolve()
  #lastRun: Promise<unknown> = Promise.resolve()

  private constructor(parts: SessionParts, graph: AdaptedGraph) {
    this.#parts = parts
    this.#graph = graph
    this.nativeProblem = parts.nativeProblem
    // Metadata came with ONNX Runtime 1.22.
    const { inputNames, outputNames, inputMetadata = [], outputMetadata = [] } = graph.session
    this.#signature = {
      inputNames: inputNames.filter((name) => !graph.feeds(name)),
      inputMetadata: inputMetadata.filter(({ name }) => !graph.feeds(name)),
      outputNames,
      outputMetadata,
    }
  }

  /**
   * `createSession` makes these: one session, whether there are adapters or not.
   *
   * @param open a session of the model as it is, where there is one
   */
  static async create(
    parts: SessionParts,
    adapters: ReadonlyMap<string, Adapter>,
    open?: InferenceSession,
  ): Promise<AdaptedSession> {
    const { sessions, moduleNames } = parts
    for (const name of adapters.keys()) checkNewName(name, new Set())
    if (open !== undefined || adapters.size === 0) {
      const graph = open ? sessions.graphOf(open) : await sessions.attached(EMPTY_PLAN)
      const session = new AdaptedSession(parts, graph)
      try {
        for (const [name, adapter] of adapters) await session.loadAdapter(adapter, { name })
      } catch (error) {
        if (session.#graph.session !== open) await session.release()
        throw error
      }
      return session
    }
    const model = await sessions.openModel()
    const places = new Map<string, LayerPlace>()
    const placed = Array.from(adapters, ([name, given]) => {
      const adapter = withoutAbsent(given, moduleNames)
      for (const [module, place] of findPlaces(model.model, adapter, moduleNames)) places.set(module, place)
      return placeAdapter(name, adapter, places)
    })
    const session = new AdaptedSession(parts, await sessions.attached(planFor(placed), model))
    for (const [module, place] of places) session.#places.set(module, place)
    for (const adapter of placed) session.#add(adapter)
    return session
  }

  /** Whether the branches are computed by the kernel of `@fourierft/native`. */
  get usesNativeKernel(): boolean {
    return this.nativeProblem === undefined
  }

  /** The model's own inputs. */
  get inputNames(): readonly string[] {
    return this.#signature.inputNames
  }

  get outputNames(): readonly string[] {
    return this.#signature.outputNames
  }

  get inputMetadata(): readonly InferenceSession.ValueMetadata[] {
    return this.#signature.inputMetadata
  }

  get outputMetadata(): readonly InferenceSession.ValueMetadata[] {
    return this.#signature.outputMetadata
  }

  /** Names of the active adapters; they stay active while they are disabled. */
  get activeAdapters(): readonly string[] {
    return this.#active
  }

  /** Names of the adapters that are in the weights now. */
  get mergedAdapters(): readonly string[] {
    return this.#merged?.names ?? []
  }

  /** False between `disableAdapters` and `enableAdapters`. */
  get enabled(): boolean {
    return this.#enabled
  }

  /** The names of all adapters, in the order in which they came. */
  listAdapters(): string[] {
    return [...this.#adapters.keys()]
  }

  /**
   * Runs the model with the adapters that are active now: what is set later changes nothing about a run that was begun. Arguments and
   * result are those of ONNX Runtime's `InferenceSession.run`.
   *
   * @throws {FourierFTError} `INVALID_OPTION` and `SHAPE_MISMATCH` for feeds that ONNX Runtime refuses, `INVALID_STATE` after `release`; for
   *   `adapters` in the options `ADAPTER_NOT_FOUND`, `INVALID_STATE` while merged, and `INVALID_OPTION` where the batch cannot be divided into
   *   that many equal parts
   */
  run(feeds: Feeds, options?: RunOptions): Promise<InferenceSession.ReturnType>
  run(feeds: Feeds, fetches: Fetches, options?: RunOptions): Promise<InferenceSession.ReturnType>
  async run(
    feeds: Feeds,
    fetchesOrOptions?: Fetches | RunOptions,
    options?: RunOptions,
  ): Promise<InferenceSession.ReturnType> {
    this.#checkLive()
    // As ONNX Runtime tells them apart: what names an output is no options.
    const isFetches =
      Array.isArray(fetchesOrOptions) ||
      this.outputNames.some((name) => fetchesOrOptions !== undefined && Object.hasOwn(fetchesOrOptions, name))
    const { adapters, ...runOptions }: RunOptions =
      (isFetches ? options : ((fetchesOrOptions as RunOptions | undefined) ?? options)) ?? {}
    const choice = this.#choice(adapters ?? this.#perRow, feeds)
    const merged = this.#merged?.graph
    while (!merged && this.#opening) await this.#opening
    // The session may have been released meanwhile, or not be there again.
    this.#checkLive()
    const graph = merged ?? this.#graph
    const all = { ...feeds, ...graph.feedsFor(choice) }
    const run = () =>
      isFetches
        ? graph.session.run(all, fetchesOrOptions as Fetches, runOptions)
        : graph.session.run(all, runOptions)
    try {
      return await graph.run(() => (this.#parts.runsAlone ? this.#afterLastRun(run) : run()))
    } catch (error) {
      throw error instanceof FourierFTError ? error : (feedsError(feeds, this.#signature, error) ?? error)
    }
  }

  /**
   * An adapter from a directory, the hub, a URL, files or memory, or one that is loaded already; active at once if it is the first.
   * One that changes layers or entries which no loaded adapter changes has the session made again. Where no run is under way the old
   * session is closed first, so that the model is in memory once, and runs wait for the new one; else they finish on the old one.
   *
   * @throws {FourierFTError} `ADAPTER_EXISTS`, `MODULE_NOT_FOUND`, `SHAPE_MISMATCH`, `UNSUPPORTED`, `INVALID_STATE` after `release`, and
   *   what `loadAdapter` of `@fourierft/core` throws; nothing is changed then
   */
  async loadAdapter(
    source: AdapterSource | Adapter,
    { name = 'default', ...options }: LoadAdapterOptions & { readonly name?: string } = {},
  ): Promise<void> {
    this.#checkNewName(name)
    const adapter = source instanceof Adapter ? source : await loadAdapter(source, options)
    await this.#afterLastLoad(() => this.#include(name, adapter))
  }

  /** Whether `loadAdapter` would leave the session as it is: all that the adapter changes is changed by others too. */
  serves(given: Adapter): boolean {
    const adapter = withoutAbsent(given, this.#parts.moduleNames)
    const modules = modulesOf(adapter)
    if (modules.some((module) => !this.#places.has(module))) return false
    return this.#graph.serves(placeAdapter('', adapter, this.#places))
  }

  /**
   * The active adapter, or several: what they change is added up. A merged model is unmerged first, as PEFT does.
   *
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`; `UNSUPPORTED` where two of them replace the same layer (`modulesToSave`); nothing is
   *   changed then
   */
  setAdapter(names: string | readonly string[]): void {
    this.#checkLive()
    const active = [...new Set(listOfNames('names', names))]
    this.#checkAddable(active)
    this.unmergeAdapter()
    this.#active = active
  }

  /** No adapter is applied: the base model's own bits. A merged model is unmerged. */
  disableAdapters(): void {
    this.unmergeAdapter()
    this.#enabled = false
  }

  /** The active adapters are applied again. */
  enableAdapters(): void {
    this.#checkLive()
    this.#enabled = true
  }

  /**
   * Forgets an adapter. If it was active, the others that are active stay so. A merged model is unmerged.
   *
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`
   */
  deleteAdapter(name: string): void {
    this.#checkLive()
    this.#adapter(name)
    this.unmergeAdapter()
    this.#adapters.delete(name)
    this.#active = this.#active.filter((active) => active !== name)
  }

  /**
   * Adds ΔW of the active adapters (or of the named ones) to the weights: a session of the merged model, which costs nothing over the
   * base model. The other session is kept, for `unmergeAdapter`; `mergeAndUnload` keeps one.
   *
   * @throws {FourierFTError} `INVALID_STATE` (merged already, disabled, no adapter; another verb was called meanwhile), `ADAPTER_NOT_FOUND`,
   *   `NOT_FINITE`, `UNSUPPORTED` for quantised weights; nothing is changed then
   */
  async mergeAdapter(names: string | readonly string[] = this.#active): Promise<void> {
    const chosen = [...listOfNames('names', names)]
    this.#checkMergeable(chosen)
    const changes = this.#changes
    await this.#afterLastLoad(async () => {
      this.#checkMergeable(chosen)
      const graph = await this.#parts.sessions.merged(this.#merge(chosen))
      if (this.#ended === undefined && this.#changes === changes) {
        this.#merged = { names: chosen, graph }
        return
      }
      await graph.release()
      this.#checkLive()
      throw invalidState('the adapters were changed while they were being merged; call mergeAdapter() again')
    })
  }

  /** The base model's own weights again, and the active adapters beside them. Without effect where nothing is merged. */
  unmergeAdapter(): void {
    this.#checkLive()
    this.#changes++
    const graph = this.#merged?.graph
    this.#merged = undefined
    // A failure to free what nobody uses any more is no failure of the verb.
    graph?.release().catch(() => undefined)
  }

  /**
   * ONNX Runtime's own session of the model with the active adapters inside of its weights, and without a trace of this package. This
   * session is released.
   *
   * @throws {FourierFTError} as `mergeAdapter`
   */
  async mergeAndUnload(): Promise<InferenceSession> {
    if (!this.#merged) {
      this.#checkMergeable(this.#active)
      await this.#afterLastLoad(async () => {
        this.#checkMergeable(this.#active)
        const adapters = this.#merge(this.#active)
        this.#ended = ENDED
        try {
          await this.#exchange(() => this.#parts.sessions.merged(adapters))
        } catch (error) {
          if (this.#ended === ENDED) this.#ended = undefined
          throw error
        }
      })
      return this.#graph.session
    }
    const { graph } = this.#merged
    this.#merged = undefined
    await this.release()
    return graph.session
  }

  /**
   * Every `run` that the function begins has one adapter for each row of the batch: those before its first `await`.
   *
   * @param names an adapter for each row, null for the base model
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`, `INVALID_STATE` while merged, `UNSUPPORTED` for adapters with `modulesToSave`
   *   beside others
   */
  withAdapterPerRow<T>(names: readonly (string | null)[], run: () => T): T {
    this.#checkLive()
    this.#checkUnmerged()
    this.#checkRows('names', names)
    const before = this.#perRow
    this.#perRow = names
    try {
      return run()
    } finally {
      this.#perRow = before
    }
  }

  /** Frees the session when its last run is done. */
  async release(): Promise<void> {
    this.#checkLive()
    this.#ended = ENDED
    await this.#lastLoad
    await Promise.all([this.#graph.release(), this.#merged?.graph.release()])
  }

  async #include(name: string, given: Adapter): Promise<void> {
    this.#checkNewName(name)
    const { sessions, moduleNames } = this.#parts
    const adapter = withoutAbsent(given, moduleNames)
    let model: OpenModel | undefined
    if (modulesOf(adapter).some((module) => !this.#places.has(module))) {
      model = await sessions.openModel()
      for (const [module, place] of findPlaces(model.model, adapter, moduleNames))
        this.#places.set(module, place)
    }
    const placed = placeAdapter(name, adapter, this.#places)
    if (!this.#graph.serves(placed)) {
      const plan = planFor([...this.#adapters.values(), placed])
      await this.#exchange(() => sessions.attached(plan, model))
    }
    // Released meanwhile.
    this.#checkLive()
    this.#add(placed)
  }

  #add(placed: PlacedAdapter): void {
    this.#adapters.set(placed.name, placed)
    if (this.#adapters.size === 1) this.#active = [placed.name]
  }

  /**
   * Opens another graph in the place of this one. Where no run is under way this one is closed first, and opened again if the other
   * cannot be; else runs go on on this one until the other is open.
   */
  async #exchange(open: () => Promise<AdaptedGraph>): Promise<void> {
    const old = this.#graph
    if (old.isRunning) {
      this.#graph = await open()
      old.release().catch(() => undefined)
      return
    }
    let opened = () => {}
    this.#opening = new Promise((done) => {
      opened = done
    })
    try {
      await old.release().catch((cause) => {
        // Nothing is opened in the place of what others have closed: nobody would release that.
        this.#ended = `the session was released elsewhere (${cause.message}); load the model again`
        throw new FourierFTError('INVALID_STATE', this.#ended, { cause })
      })
      this.#graph = await open().catch(async (error) => {
        this.#graph = await this.#parts.sessions.attached(old.plan).catch((cause) => {
          this.#ended = `no session of the model can be made any more (${cause.message}); load the model again`
          throw cause
        })
        throw error
      })
    } finally {
      this.#opening = undefined
      opened()
    }
  }

  #choice(perRow: readonly (string | null)[] | undefined, feeds: Feeds): Choice {
    if (perRow) this.#checkUnmerged()
    if (perRow === undefined)
      return { added: this.#enabled ? this.#active.map((name) => this.#adapter(name)) : [] }
    const adapters = this.#checkRows('adapters', perRow)
    const batch = this.inputNames
      .map((name) =>
        Object.hasOwn(feeds ?? {}, name) ? (feeds[name] as Tensor | undefined)?.dims : undefined,
      )
      .find((dims) => dims !== undefined && dims.length > 0)?.[0]
    if (perRow.length === 0 || (batch !== undefined && batch % perRow.length !== 0))
      throw new FourierFTError(
        'INVALID_OPTION',
        `adapters: the batch has ${batch} rows; it cannot be divided among ${perRow.length} adapters. Name one for each row`,
        { option: 'adapters', expected: batch, received: perRow.length },
      )
    return this.#enabled ? { perRow: adapters } : { added: [] }
  }

  #afterLastRun<T>(run: () => Promise<T>): Promise<T> {
    const result = this.#lastRun.then(run)
    this.#lastRun = result.catch(() => undefined)
    return result
  }

  #afterLastLoad(load: () => Promise<void>): Promise<void> {
    const result = this.#lastLoad.then(load)
    this.#lastLoad = result.catch(() => undefined)
    return result
  }

  /** ΔW of the named adapters and, as they are set, the whole layers of the active ones. */
  #merge(names: readonly string[]): Merge {
    return {
      added: names.map((name) => this.#adapter(name)),
      replacing: this.#active.map((name) => this.#adapter(name)),
    }
  }

  #checkAddable(names: readonly string[]): void {
    const taken = new Map<string, string>()
    for (const name of names)
      for (const [key, { module }] of this.#adapter(name).wholes) {
        const other = taken.get(key)
        if (other !== undefined)
          throw new FourierFTError(
            'UNSUPPORTED',
            `adapters ${other} and ${name} both replace layer '${module}' (modulesToSave); set one of them`,
            { module, option: 'names', received: [other, name] },
          )
        taken.set(key, name)
      }
  }

  #checkRows(option: string, names: readonly (string | null)[]): (PlacedAdapter | null)[] {
    checkNames(option, names)
    const adapters = names.map((name) => (name === null ? null : this.#adapter(name)))
    const whole = adapters.find((adapter) => adapter !== null && adapter.wholes.size > 0)
    if (whole && adapters.some((adapter) => adapter !== whole))
      throw new FourierFTError(
        'UNSUPPORTED',
        `adapter '${whole.name}' replaces whole layers (modulesToSave); it cannot share a batch`,
        { option: 'names', received: whole.name },
      )
    return adapters
  }

  #checkMergeable(names: readonly string[]): void {
    this.#checkLive()
    if (this.#merged)
      throw invalidState(`adapters ${this.#merged.names.join(', ')} are merged; call unmergeAdapter() first`)
    if (!this.#enabled) throw invalidState('the adapters are disabled; call enableAdapters() first')
    if (names.length === 0)
      throw invalidState('no adapter is active; call setAdapter() or name the adapters to merge')
    for (const name of names) this.#adapter(name)
  }

  #checkUnmerged(): void {
    if (this.#merged) throw invalidState('the model is merged; call unmergeAdapter() first')
  }

  #adapter(name: string): PlacedAdapter {
    const adapter = this.#adapters.get(name)
    if (adapter) return adapter
    throw adapterNotFound(name, this.listAdapters())
  }

  #checkNewName(name: string): void {
    this.#checkLive()
    checkNewName(name, this.#adapters)
  }

  #checkLive(): void {
    if (this.#ended !== undefined) throw invalidState(this.#ended)
  }
}
