/**
 * `SessionHost`: the adapters of one model file in ONNX Runtime. It matches adapters to the model's layers, creates sessions that can apply
 * them, and runs calls. One graph has slots for all loaded adapters. A new graph is created only for an adapter that needs other slots.
 */
import {
  type Adapter,
  type AdapterHost,
  type Applied,
  type Choice,
  type Ending,
  FourierFTError,
  invalidState,
  rejectTrainedBiases,
} from '@fourierft/core'
import { biasOf, checkWeight, readLayer, valuesOfFreeWidth } from '@fourierft/onnx'
import type { InferenceSession } from 'onnxruntime-common'
import type { AdaptedGraph, RunArguments } from './adapted-graph.js'
import { NO_SLOTS, slotsFor } from './adapter-slots.js'
import { feedsError } from './feeds-error.js'
import { type MatchedLayer, modulesOf } from './matched-layers.js'
import type { ModelSessions } from './model-sessions.js'
import type { OpenModel } from './model-source.js'
import { type ModuleNames, withoutAbsent } from './module-names.js'
import type { NamedLayer } from './new-adapter.js'
import { type ApplicableAdapter, matchAdapter, type SessionAdapter } from './session-adapter.js'
import { SharedGraph } from './shared-graph.js'
import type { TrainingSession, TrainingSettings } from './trainer/training-session.js'

/** The inputs and outputs of the original model. */
export type Signature = Pick<
  InferenceSession,
  'inputNames' | 'outputNames' | 'inputMetadata' | 'outputMetadata'
>

export interface SessionHostInit {
  /** The graph of the first session. */
  readonly graph: AdaptedGraph
  /** Prepares further sessions. It is called once, when another session is needed. */
  readonly sessions: () => Promise<ModelSessions>
  readonly moduleNames: ModuleNames
  /** Outputs that the first session does not have, but the graphs with slots have. */
  readonly addedOutputs?: readonly InferenceSession.ValueMetadata[]
}

export class SessionHost implements AdapterHost<SessionAdapter, SharedGraph> {
  readonly signature: Signature
  readonly #openSessions: () => Promise<ModelSessions>
  readonly #moduleNames: ModuleNames
  /** The layers of the modules of all adapters that were loaded, by module. */
  readonly #matchedLayers = new Map<string, MatchedLayer>()
  /** The model that was read to match an adapter. It is kept until the graph for the adapter is made from it. */
  readonly #openModels = new WeakMap<SessionAdapter, OpenModel>()
  /** All graphs that are open or being opened. */
  readonly #graphs = new Set<SharedGraph>()
  /** The sessions of trainers. They end with this host. */
  readonly #trainings = new Set<TrainingSession>()
  #sessions: ModelSessions | undefined
  #current: SharedGraph
  #ended: Ending | undefined

  constructor({ graph, sessions, moduleNames, addedOutputs = [] }: SessionHostInit) {
    this.#openSessions = sessions
    this.#moduleNames = moduleNames
    this.#current = this.#share(graph)
    // Versions of ONNX Runtime before 1.22 have no metadata.
    const { inputNames, outputNames, inputMetadata = [], outputMetadata = [] } = graph.session
    this.signature = {
      inputNames: inputNames.filter((name) => !graph.feeds(name)),
      inputMetadata: inputMetadata.filter(({ name }) => !graph.feeds(name)),
      outputNames: [...outputNames, ...addedOutputs.map(({ name }) => name)],
      outputMetadata: [...outputMetadata, ...addedOutputs],
    }
  }

  /** Creates a host whose first session can apply all of these adapters. */
  static async open(
    sessions: ModelSessions,
    moduleNames: ModuleNames,
    adapters: ReadonlyMap<string, Adapter>,
  ): Promise<{ readonly host: SessionHost; readonly matched: ReadonlyMap<string, SessionAdapter> }> {
    const model = adapters.size > 0 ? await sessions.openModel() : undefined
    const layers = new Map<string, MatchedLayer>()
    const matched = new Map<string, SessionAdapter>()
    for (const [name, adapter] of adapters) rejectTrainedBiases(name, adapter.config)
    for (const [name, adapter] of adapters) {
      if (model) await addMatchedLayers(adapter, { sessions, model, layers, moduleNames })
      matched.set(name, matchPresent(name, adapter, { layers, moduleNames }))
    }
    const graph = await sessions.openAttached(slotsFor([...matched.values()]), model)
    const host = new SessionHost({ graph, sessions: async () => sessions, moduleNames })
    for (const [module, layer] of layers) host.#matchedLayers.set(module, layer)
    return { host, matched }
  }

  /** The session for calls that start now; undefined while it is being created. */
  get session(): InferenceSession | undefined {
    return this.#current.graph?.session
  }

  /** Reads the file, to inspect or edit it. */
  async openModel(): Promise<OpenModel> {
    return (await this.#getSessions()).openModel()
  }

  /**
   * Opens the training graph of an adapter. The host releases it at its end.
   *
   * @param opened a model that contains this session's model; it is edited. Default: this session's model
   * @throws {FourierFTError} as `ModelSessions.training`; `INVALID_STATE`
   */
  async openTraining(
    adapter: SessionAdapter,
    settings: TrainingSettings,
    opened?: OpenModel,
  ): Promise<TrainingSession> {
    this.checkLive()
    const training = await (await this.#getSessions()).training(adapter, settings, opened)
    if (this.#ended !== undefined) {
      await training.release()
      throw stateError(this.#ended)
    }
    for (const other of this.#trainings) if (other.isReleased) this.#trainings.delete(other)
    this.#trainings.add(training)
    return training
  }

  /** Returns the linear layers by the names of their modules. */
  async namedLayers(): Promise<Map<string, NamedLayer>> {
    const sessions = await this.#getSessions()
    const opened = await sessions.openModel()
    const layers = await sessions.namedLayers(opened, this.#moduleNames)
    const packed = new Set([...layers.values()].flatMap(({ node, part }) => (part ? [node] : [])))
    return new Map(
      Array.from(layers, ([name, layer]) => [
        name,
        {
          shape: [layer.outFeatures, layer.inFeatures],
          isPacked: layer.part === undefined && packed.has(layer.node),
          hasBias: biasOf(layer) !== undefined,
          outputs: valuesOfFreeWidth(layer)?.filter((value) => layer.graph.isOutput(value)) ?? [],
          read: async () => {
            checkWeight(layer)
            return readLayer(layer, sessions.readExternal(opened))
          },
        },
      ]),
    )
  }

  /**
   * Finds the layers of an adapter.
   *
   * @param opened the model, if it has been read already
   */
  async match(name: string, adapter: Adapter, opened?: OpenModel): Promise<SessionAdapter> {
    const context = this.#matchContext
    const model = opened ?? (this.#needsFile(adapter) ? await this.openModel() : undefined)
    if (model) await addMatchedLayers(adapter, { sessions: await this.#getSessions(), model, ...context })
    const matched = matchPresent(name, adapter, context)
    if (model && !this.serves(matched)) this.#openModels.set(matched, model)
    return matched
  }

  serves(adapter: SessionAdapter): boolean {
    return this.#current.graph?.serves(adapter) ?? false
  }

  /** Returns whether the current graph can apply an adapter that is not loaded. */
  canServe(adapter: Adapter): boolean {
    return !this.#needsFile(adapter) && this.serves(matchPresent('', adapter, this.#matchContext))
  }

  async rebuild(adapters: readonly SessionAdapter[]): Promise<void> {
    const sessions = await this.#getSessions()
    const openModels = adapters.flatMap((adapter) => this.#openModels.get(adapter) ?? [])
    for (const adapter of adapters) this.#openModels.delete(adapter)
    // Called first, because it throws if one graph cannot apply all of the adapters; then no session is closed.
    const slots = slotsFor(adapters)
    await this.#replaceGraph(() => sessions.openAttached(slots, openModels.at(-1)))
  }

  /**
   * Replaces a session without slots by one of the native kernel's addon, which is made and run off JavaScript's thread. Does nothing if the kernel is not
   * used, or if adapters have slots.
   */
  async useNativeSession(): Promise<void> {
    const { slots } = await this.#current.opened
    const sessions = await this.#getSessions()
    if (sessions.nativeProblem === undefined && slots === NO_SLOTS)
      await this.#replaceGraph(() => sessions.openAttached(slots))
  }

  async merge(added: readonly Applied<SessionAdapter>[]): Promise<SharedGraph> {
    return this.#openBeside(async () => (await this.#getSessions()).openMerged(added))
  }

  /**
   * Opens another graph, with slots for these adapters, beside the current one. `hold` and `run` accept it; `discard` closes it.
   *
   * @throws {FourierFTError} `UNSUPPORTED` if one graph cannot apply all of the adapters; `INVALID_STATE`
   */
  async openGraph(adapters: readonly SessionAdapter[]): Promise<SharedGraph> {
    const openModels = adapters.flatMap((adapter) => this.#openModels.get(adapter) ?? [])
    for (const adapter of adapters) this.#openModels.delete(adapter)
    const slots = slotsFor(adapters)
    return this.#openBeside(async () => (await this.#getSessions()).openAttached(slots, openModels.at(-1)))
  }

  async #openBeside(open: () => Promise<AdaptedGraph>): Promise<SharedGraph> {
    const graph = this.#share(await open())
    if (this.#ended === undefined) return graph
    this.discard(graph)
    throw stateError(this.#ended)
  }

  discard(graph: SharedGraph): void {
    // The caller's method succeeds even if an unused session cannot be released.
    this.#close(graph).catch(() => undefined)
  }

  adapterOf({ source }: SessionAdapter): Adapter {
    return source
  }

  /**
   * Checks that the host has not ended.
   *
   * @throws {FourierFTError} `INVALID_STATE`
   */
  checkLive(): void {
    if (this.#ended !== undefined) throw stateError(this.#ended)
  }

  /**
   * Returns the graph for all runs of a call that starts now: the merged graph, if adapters are merged. The call drops the graph when it ends.
   *
   * @throws {FourierFTError} `INVALID_STATE`
   */
  hold(merged: SharedGraph | undefined): SharedGraph {
    this.checkLive()
    return (merged ?? this.#current).hold()
  }

  /**
   * Runs the graph of a call once.
   *
   * @throws {FourierFTError} `INVALID_OPTION` and `SHAPE_MISMATCH` for feeds that ONNX Runtime rejects; `INVALID_OPTION` if the batch cannot be
   *   divided among the rows' adapters; `INVALID_STATE`
   */
  async run(
    held: SharedGraph,
    choice: Choice<ApplicableAdapter>,
    args: RunArguments,
  ): Promise<InferenceSession.ReturnType> {
    this.checkLive()
    const graph = held.graph ?? (await held.opened)
    try {
      return await graph.run('perRow' in choice ? rowsFor(graph.rowsIn(args.feeds), choice) : choice, args)
    } catch (error) {
      throw FourierFTError.isInstance(error)
        ? error
        : (feedsError(args.feeds, this.signature, error) ?? error)
    }
  }

  /** Sorts the arguments of `run` as ONNX Runtime does: an object that has the name of an output as a key contains fetches, not options. */
  runArguments<Options extends InferenceSession.RunOptions>(
    feeds: InferenceSession.FeedsType,
    fetchesOrOptions: InferenceSession.FetchesType | Options | undefined,
    options: Options | undefined,
  ): RunArguments & { readonly options: Options | InferenceSession.RunOptions } {
    const isFetches =
      Array.isArray(fetchesOrOptions) ||
      this.signature.outputNames.some(
        (name) => fetchesOrOptions !== undefined && Object.hasOwn(fetchesOrOptions, name),
      )
    return isFetches
      ? { feeds, fetches: fetchesOrOptions as InferenceSession.FetchesType, options: options ?? {} }
      : { feeds, options: (fetchesOrOptions as Options | undefined) ?? options ?? {} }
  }

  /**
   * Returns a session with these adapters in its weights. The caller has to release it.
   *
   * @param merged the result of `merge`, if the adapters have been merged
   */
  async unload(
    added: readonly Applied<SessionAdapter>[],
    merged: SharedGraph | undefined,
  ): Promise<InferenceSession> {
    await this.releaseTrainings()
    if (merged === undefined)
      await this.#replaceGraph(async () => (await this.#getSessions()).openMerged(added))
    else {
      this.discard(this.#current)
      this.#current = merged
    }
    return this.#currentSession()
  }

  /** Replaces the session with a session of the original model, and returns the new session. The caller has to release it. */
  async giveBack(create: () => Promise<InferenceSession>): Promise<InferenceSession> {
    await this.releaseTrainings()
    await this.#replaceGraph(async () => (await this.#getSessions()).createWithoutSlots(create))
    return this.#currentSession()
  }

  /**
   * Releases all sessions after their current runs, even if calls still use them.
   *
   * @param reason the error of all later calls
   */
  async release(reason: Ending): Promise<void> {
    this.#ended ??= reason
    await Promise.all([this.releaseTrainings(), ...Array.from(this.#graphs, (graph) => graph.closeNow())])
  }

  /** Releases the sessions of trainers after their current runs. */
  async releaseTrainings(): Promise<void> {
    const trainings = [...this.#trainings]
    this.#trainings.clear()
    await Promise.all(trainings.map((training) => training.release()))
  }

  #currentSession(): InferenceSession {
    const { graph } = this.#current
    if (graph === undefined)
      throw this.#ended ? stateError(this.#ended) : invalidState('the session is being created')
    return graph.session
  }

  #share(graph: AdaptedGraph | Promise<AdaptedGraph>): SharedGraph {
    const shared = new SharedGraph(graph)
    this.#graphs.add(shared)
    return shared
  }

  async #close(graph: SharedGraph): Promise<void> {
    await graph.close()
    this.#graphs.delete(graph)
  }

  async #getSessions(): Promise<ModelSessions> {
    this.#sessions ??= await this.#openSessions()
    return this.#sessions
  }

  /**
   * Replaces the current graph with a new graph. If calls use the current graph, it is used until the new graph is open, and closes after its last
   * call. Otherwise it is closed first, so that the model is in memory once. If the new graph then cannot be opened, the old graph is opened again.
   * Calls that start before a graph is open wait for it.
   */
  async #replaceGraph(open: () => Promise<AdaptedGraph>): Promise<void> {
    // The model may have been released while its file was read.
    this.checkLive()
    const old = this.#current
    if (old.isUsed) {
      const next = this.#share(await open())
      if (this.#ended !== undefined) {
        await next.closeNow()
        throw stateError(this.#ended)
      }
      this.#current = next
      this.discard(old)
      return
    }
    let failure: { readonly error: unknown } | undefined
    this.#current = this.#share(
      this.#reopen(old, open, (error) => {
        failure = { error }
      }),
    )
    const { opened } = this.#current
    await opened
    if (failure) throw failure.error
  }

  /** Closes the old graph and opens the new one. Opens the old graph again if the new graph cannot be opened. */
  async #reopen(
    old: SharedGraph,
    open: () => Promise<AdaptedGraph>,
    onFailure: (error: unknown) => void,
  ): Promise<AdaptedGraph> {
    const { slots } = await old.opened
    await this.#close(old).catch((cause) => {
      this.#graphs.delete(old)
      // The code that released the session would not release a new session, so no session is opened.
      throw this.#end(`the session was released elsewhere (${cause.message})`, cause)
    })
    try {
      this.checkLive()
      return await open()
    } catch (error) {
      this.checkLive()
      onFailure(error)
      const sessions = await this.#getSessions()
      return await sessions.openAttached(slots).catch((cause) => {
        throw this.#end(`no session of the model can be opened any more (${cause.message})`, cause)
      })
    }
  }

  #end(problem: string, cause: unknown): FourierFTError {
    this.#ended = { problem, advice: 'load the model again' }
    return stateError(this.#ended, cause)
  }

  get #matchContext(): MatchContext {
    return { layers: this.#matchedLayers, moduleNames: this.#moduleNames }
  }

  /** Returns whether the file has to be read to match the adapter: to find new modules, or to compare weights of the base model. */
  #needsFile(adapter: Adapter): boolean {
    const modules = modulesOf(withoutAbsent(adapter, this.#moduleNames))
    return adapter.baseTensors.size > 0 || modules.some((module) => !this.#matchedLayers.has(module))
  }
}

/**
 * Returns the rows' adapters for a batch of this size. An empty batch has one: several weights cannot be divided among no rows.
 *
 * @throws {FourierFTError} `INVALID_OPTION` if the batch cannot be divided into equal shares for the adapters
 */
function rowsFor(batch: number | undefined, choice: PerRow): PerRow {
  const rows = choice.perRow.length
  if (rows > 0 && batch === 0) return { perRow: choice.perRow.slice(0, 1) }
  if (rows > 0 && (batch === undefined || batch % rows === 0)) return choice
  throw new FourierFTError(
    'INVALID_OPTION',
    `adapters: the batch has ${batch} rows, which cannot be divided among ${rows} adapters`,
    { advice: 'give one adapter for each row', option: 'adapters', expected: batch, received: rows },
  )
}

function stateError({ problem, advice }: Ending, cause?: unknown): FourierFTError {
  return new FourierFTError('INVALID_STATE', problem, { advice, cause })
}

type PerRow = Extract<Choice<ApplicableAdapter>, { readonly perRow: unknown }>

interface MatchContext {
  /** The layers that were found, by module. */
  readonly layers: Map<string, MatchedLayer>
  readonly moduleNames: ModuleNames
}

interface FileContext extends MatchContext {
  readonly sessions: ModelSessions
  readonly model: OpenModel
}

/** Finds the layers of the adapter's modules in the file, and adds them to `layers`. */
async function addMatchedLayers(
  source: Adapter,
  { sessions, model, layers, moduleNames }: FileContext,
): Promise<void> {
  const adapter = withoutAbsent(source, moduleNames)
  for (const [module, layer] of await sessions.findAdapterLayers(model, adapter, moduleNames))
    layers.set(module, layer)
  // Strangers' adapters can have any number of names for the same layers.
  for (const oldest of layers.keys()) {
    if (layers.size <= MAX_MATCHED) break
    layers.delete(oldest)
  }
}

/** The most module names whose layers are remembered: more than an adapter has. */
const MAX_MATCHED = 100_000

/** Matches the adapter without the modules that `moduleNames` maps to null. */
function matchPresent(name: string, source: Adapter, { layers, moduleNames }: MatchContext): SessionAdapter {
  const adapter = matchAdapter(name, withoutAbsent(source, moduleNames), layers)
  return { ...adapter, source: source.withoutFiles() }
}
