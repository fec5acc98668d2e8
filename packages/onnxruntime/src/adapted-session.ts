/**
 * A session of ONNX Runtime with adapters: it is used as the ordinary one, and has PEFT's verbs. It keeps one graph whose branches serve
 * all loaded adapters; the session of that graph is made anew only where an adapter needs a branch or an entry that it does not have.
 */
import {
  Adapter,
  type AdapterSource,
  FourierFTError,
  type LoadAdapterOptions,
  loadAdapter,
} from '@fourierft/core'
import { readModel } from '@fourierft/onnx'
import type { InferenceSession, Tensor } from 'onnxruntime-common'
import { AdaptedGraph, type Choice } from './adapted-graph.js'
import {
  attachPlan,
  findPlaces,
  type LayerPlace,
  type PlacedAdapter,
  placeAdapter,
  planFor,
} from './layer-places.js'
import type { ModelBytes, ModelFile } from './model-source.js'
import type { Ort } from './ort.js'

type Feeds = InferenceSession.FeedsType
type Fetches = InferenceSession.FetchesType

export interface RunOptions extends InferenceSession.RunOptions {
  /** For each of as many equal parts of the batch (usually each row) its adapter, null for none; instead of the active ones. */
  readonly adapters?: readonly (string | null)[]
}

/** What `createSession` knows. */
export interface SessionParts {
  readonly ort: Ort
  readonly file: ModelFile
  /** To begin with. */
  readonly open: InferenceSession | undefined
  readonly options: InferenceSession.SessionOptions
  readonly moduleNames: Readonly<Record<string, string>>
  readonly nativeProblem: string | undefined
}

export class AdaptedSession {
  /** Why the native kernel does not serve here; undefined where it does. */
  readonly nativeProblem: string | undefined
  readonly #parts: SessionParts
  readonly #adapters = new Map<string, PlacedAdapter>()
  readonly #places = new Map<string, LayerPlace>()
  #graph: AdaptedGraph
  #active: readonly string[] = []
  #enabled = true
  #perRow: readonly (string | null)[] | undefined
  #released = false
  /** Loads come one after the other; so do runs on the web, where the runtime allows one at a time. */
  #lastLoad: Promise<unknown> = Promise.resolve()
  #lastRun: Promise<unknown> = Promise.resolve()

  private constructor(parts: SessionParts, graph: AdaptedGraph) {
    this.#parts = parts
    this.#graph = graph
    this.nativeProblem = parts.nativeProblem
  }

  /** `createSession` makes these. */
  static async create(parts: SessionParts): Promise<AdaptedSession> {
    const { ort, file, open, options } = parts
    const session = open ?? (await createInferenceSession(ort, await file.asIs(), options, file))
    return new AdaptedSession(parts, new AdaptedGraph(session, ort.Tensor, new Map()))
  }

  /** Whether the branches are computed by the kernel of `@fourierft/native`. */
  get usesNativeKernel(): boolean {
    return this.nativeProblem === undefined
  }

  /** The model's own inputs. */
  get inputNames(): readonly string[] {
    return this.#graph.session.inputNames.filter((name) => !this.#graph.feeds(name))
  }

  get outputNames(): readonly string[] {
    return this.#graph.session.outputNames
  }

  get inputMetadata(): readonly InferenceSession.ValueMetadata[] {
    return this.#graph.session.inputMetadata.filter(({ name }) => !this.#graph.feeds(name))
  }

  get outputMetadata(): readonly InferenceSession.ValueMetadata[] {
    return this.#graph.session.outputMetadata
  }

  /** Names of the active adapters; they stay active while they are disabled. */
  get activeAdapters(): readonly string[] {
    return this.#active
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
   * @throws {FourierFTError} `INVALID_STATE` after `release`; for `adapters` in the options `ADAPTER_NOT_FOUND`, and `INVALID_OPTION`
   *   where the batch cannot be divided into that many equal parts
   */
  run(feeds: Feeds, options?: RunOptions): Promise<InferenceSession.ReturnType>
  run(feeds: Feeds, fetches: Fetches, options?: RunOptions): Promise<InferenceSession.ReturnType>
  async run(
    feeds: Feeds,
    fetchesOrOptions?: Fetches | RunOptions,
    options?: RunOptions,
  ): Promise<InferenceSession.ReturnType> {
    this.#checkLive()
    const graph = this.#graph
    // As ONNX Runtime tells them apart: what names an output is no options.
    const isFetches =
      Array.isArray(fetchesOrOptions) ||
      this.outputNames.some((name) => fetchesOrOptions !== undefined && Object.hasOwn(fetchesOrOptions, name))
    const { adapters, ...runOptions }: RunOptions =
      (isFetches ? options : ((fetchesOrOptions as RunOptions | undefined) ?? options)) ?? {}
    const choice = this.#choice(adapters ?? this.#perRow, feeds)
    const all = { ...feeds, ...graph.feedsFor(choice) }
    const run = () =>
      isFetches
        ? graph.session.run(all, fetchesOrOptions as Fetches, runOptions)
        : graph.session.run(all, runOptions)
    return graph.run(() => (this.#isWeb ? this.#afterLastRun(run) : run()))
  }

  /**
   * An adapter from a directory, the hub, a URL, files or memory, or one that is loaded already; active at once if it is the first.
   * One that changes layers or entries which no loaded adapter changes has the session made again; runs that were begun finish on the
   * old one.
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
    const load = this.#lastLoad.then(() => this.#include(name, adapter))
    this.#lastLoad = load.catch(() => undefined)
    await load
  }

  /**
   * The active adapter, or several: what they change is added up.
   *
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`; nothing is changed then
   */
  setAdapter(names: string | readonly string[]): void {
    this.#checkLive()
    const active = [...new Set(typeof names === 'string' ? [names] : names)]
    for (const name of active) this.#adapter(name)
    this.#active = active
  }

  /** No adapter is applied: the base model's own bits. */
  disableAdapters(): void {
    this.#checkLive()
    this.#enabled = false
  }

  /** The active adapters are applied again. */
  enableAdapters(): void {
    this.#checkLive()
    this.#enabled = true
  }

  /**
   * Forgets an adapter. If it was active, the others that are active stay so.
   *
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`
   */
  deleteAdapter(name: string): void {
    this.#checkLive()
    this.#adapter(name)
    this.#adapters.delete(name)
    this.#active = this.#active.filter((active) => active !== name)
  }

  /**
   * Every `run` that the function begins has one adapter for each row of the batch: those before its first `await`.
   *
   * @param names an adapter for each row, null for the base model
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`
   */
  withAdapterPerRow<T>(names: readonly (string | null)[], run: () => T): T {
    this.#checkLive()
    for (const name of names) if (name !== null) this.#adapter(name)
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
    this.#released = true
    await this.#lastLoad
    await this.#graph.release()
  }

  async #include(name: string, adapter: Adapter): Promise<void> {
    this.#checkNewName(name)
    const { ort, file, options, moduleNames } = this.#parts
    if ([...adapter.modules.keys()].some((module) => !this.#places.has(module))) {
      const model = readModel((await file.read()).bytes, { file: file.name })
      for (const [module, place] of findPlaces(model, adapter, moduleNames)) this.#places.set(module, place)
    }
    const placed = placeAdapter(name, adapter, this.#places)
    if (!this.#graph.serves(placed)) {
      const read = await file.read()
      const model = readModel(read.bytes, { file: file.name })
      const plan = planFor([...this.#adapters.values(), placed])
      const inputs = attachPlan(model, plan)
      const session = await createInferenceSession(ort, { ...read, bytes: model.toBytes() }, options, file)
      const old = this.#graph
      if (this.#released) {
        await session.release()
        this.#checkLive()
      }
      this.#graph = new AdaptedGraph(session, ort.Tensor, plan, inputs)
      // A failure to free what nobody uses any more is no failure of the load.
      old.release().catch(() => undefined)
    }
    this.#adapters.set(name, placed)
    if (this.#adapters.size === 1) this.#active = [name]
  }

  #choice(perRow: readonly (string | null)[] | undefined, feeds: Feeds): Choice {
    if (perRow === undefined)
      return { added: this.#enabled ? this.#active.map((name) => this.#adapter(name)) : [] }
    const adapters = perRow.map((name) => (name === null ? null : this.#adapter(name)))
    const batch = this.inputNames
      .map((name) => (feeds[name] as Tensor | undefined)?.dims)
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

  get #isWeb(): boolean {
    return this.#parts.ort.env.versions.web !== undefined
  }

  #adapter(name: string): PlacedAdapter {
    const adapter = this.#adapters.get(name)
    if (adapter) return adapter
    const known = this.listAdapters()
    throw new FourierFTError(
      'ADAPTER_NOT_FOUND',
      `there is no adapter '${name}'; there is ${known.join(', ') || 'none'}`,
      { option: 'name', expected: known, received: name },
    )
  }

  #checkNewName(name: string): void {
    this.#checkLive()
    if (typeof name !== 'string' || name === '')
      throw new FourierFTError('INVALID_OPTION', 'name: expected a name for the adapter', {
        option: 'name',
        received: name,
      })
    if (this.#adapters.has(name))
      throw new FourierFTError(
        'ADAPTER_EXISTS',
        `there is an adapter '${name}' already; delete it first or choose another name`,
        { option: 'name', received: name },
      )
  }

  #checkLive(): void {
    if (this.#released)
      throw new FourierFTError(
        'INVALID_STATE',
        'the session was released; make a new one with createSession()',
      )
  }
}

/**
 * The runtime's own session.
 *
 * @throws {FourierFTError} `INVALID_ONNX` for what is no model, `UNSUPPORTED` for a model that the runtime refuses
 */
async function createInferenceSession(
  { InferenceSession }: Ort,
  model: string | ModelBytes,
  options: InferenceSession.SessionOptions,
  file: ModelFile,
): Promise<InferenceSession> {
  try {
    return typeof model === 'string'
      ? await InferenceSession.create(model, options)
      : await InferenceSession.create(model.bytes, withExternalData(options, model))
  } catch (cause) {
    const { bytes } = await file.read()
    readModel(bytes, { file: file.name })
    throw new FourierFTError(
      'UNSUPPORTED',
      `${file.name}: ONNX Runtime made no session of it: ${String(cause)}`,
      {
        file: file.name,
        cause,
      },
    )
  }
}

/** With the external data of a model that ONNX Runtime gets as bytes, or the folder in which it looks for them. */
function withExternalData(
  options: InferenceSession.SessionOptions,
  { folder, externalData }: ModelBytes,
): InferenceSession.SessionOptions {
  if (externalData) return { ...options, externalData }
  if (folder === undefined) return options
  const { session, ...extra } = (options.extra ?? {}) as { session?: Record<string, unknown> }
  return {
    ...options,
    extra: { ...extra, session: { model_external_initializers_file_folder_path: folder, ...session } },
  }
}
