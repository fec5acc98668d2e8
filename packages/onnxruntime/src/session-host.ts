/**
 * The adapters of one model file in ONNX Runtime: finds their layers, makes sessions that serve them, and runs what a call has chosen. It
 * has one graph for all loaded adapters and makes another only where an adapter needs a branch or an entry that this one does not have.
 */
import {
  type Adapter,
  type AdapterHost,
  type Applied,
  type Choice,
  FourierFTError,
  invalidState,
  rejectTrainedBiases,
} from '@fourierft/core'
import { checkWeight, readLayer } from '@fourierft/onnx'
import type { InferenceSession } from 'onnxruntime-common'
import type { AdaptedGraph, RunArguments } from './adapted-graph.js'
import { feedsError } from './feeds-error.js'
import {
  type LayerPlace,
  type MatchedAdapter,
  modulesOf,
  namedLayers,
  placeAdapter,
  planFor,
} from './layer-places.js'
import type { ModelSessions } from './model-sessions.js'
import type { OpenModel } from './model-source.js'
import { type ModuleNames, withoutAbsent } from './module-names.js'
import type { NamedLayer } from './new-adapter.js'
import { SharedGraph } from './shared-graph.js'

/** The model's own inputs and outputs, which no adapter changes. */
export type Signature = Pick<
  InferenceSession,
  'inputNames' | 'outputNames' | 'inputMetadata' | 'outputMetadata'
>

export interface SessionHostParts {
  /** Where the first session is. */
  readonly graph: AdaptedGraph
  /** How others are made; asked when the first one is needed. */
  readonly sessions: () => Promise<ModelSessions>
  readonly moduleNames: ModuleNames
}

export class SessionHost implements AdapterHost<MatchedAdapter, SharedGraph> {
  readonly signature: Signature
  readonly #makeSessions: () => Promise<ModelSessions>
  readonly #moduleNames: ModuleNames
  readonly #places = new Map<string, LayerPlace>()
  /** The file as it was read to place an adapter, until the graph for the adapter is made of it. */
  readonly #opened = new WeakMap<MatchedAdapter, OpenModel>()
  /** All that are not closed. */
  readonly #graphs = new Set<SharedGraph>()
  #sessions: ModelSessions | undefined
  #current: SharedGraph
  /** Why nothing can be done any more. */
  #ended: string | undefined

  constructor({ graph, sessions, moduleNames }: SessionHostParts) {
    this.#makeSessions = sessions
    this.#moduleNames = moduleNames
    this.#current = this.#shared(graph)
    // Metadata came with ONNX Runtime 1.22.
    const { inputNames, outputNames, inputMetadata = [], outputMetadata = [] } = graph.session
    this.signature = {
      inputNames: inputNames.filter((name) => !graph.feeds(name)),
      inputMetadata: inputMetadata.filter(({ name }) => !graph.feeds(name)),
      outputNames,
      outputMetadata,
    }
  }

  /** A host whose first session serves all of these adapters. */
  static async open(
    sessions: ModelSessions,
    moduleNames: ModuleNames,
    adapters: ReadonlyMap<string, Adapter>,
  ): Promise<{ readonly host: SessionHost; readonly placed: ReadonlyMap<string, MatchedAdapter> }> {
    const model = adapters.size > 0 ? await sessions.openModel() : undefined
    const places = new Map<string, LayerPlace>()
    const placed = new Map<string, MatchedAdapter>()
    for (const [name, adapter] of adapters) rejectTrainedBiases(name, adapter.config)
    for (const [name, adapter] of adapters) {
      if (model) await findAll(adapter, { sessions, model, places, moduleNames })
      placed.set(name, place(name, adapter, { places, moduleNames }))
    }
    const graph = await sessions.attached(planFor([...placed.values()]), model)
    const host = new SessionHost({ graph, sessions: async () => sessions, moduleNames })
    for (const [module, found] of places) host.#places.set(module, found)
    return { host, placed }
  }

  /** The session of calls that begin now; undefined while it is being made. */
  get session(): InferenceSession | undefined {
    return this.#current.graph?.session
  }

  /** The file, to be looked at and edited. */
  async openModel(): Promise<OpenModel> {
    return (await this.#ofModel()).openModel()
  }

  /** Linear layers by the names of their modules. */
  async namedLayers(): Promise<Map<string, NamedLayer>> {
    const sessions = await this.#ofModel()
    const open = await sessions.openModel()
    const layers = await namedLayers(open.model, this.#moduleNames, sessions.readExternal(open))
    const packed = new Set([...layers.values()].flatMap(({ node, part }) => (part ? [node] : [])))
    return new Map(
      Array.from(layers, ([name, layer]) => [
        name,
        {
          shape: [layer.outFeatures, layer.inFeatures],
          isPacked: layer.part === undefined && packed.has(layer.node),
          read: async () => {
            checkWeight(layer)
            return readLayer(layer, sessions.readExternal(open))
          },
        },
      ]),
    )
  }

  /** @param open the file, where it has been read already */
  async place(name: string, adapter: Adapter, open?: OpenModel): Promise<MatchedAdapter> {
    const known = { places: this.#places, moduleNames: this.#moduleNames }
    const model = open ?? (this.#knows(adapter) ? undefined : await this.openModel())
    if (model) await findAll(adapter, { sessions: await this.#ofModel(), model, ...known })
    const placed = place(name, adapter, known)
    if (model && !this.serves(placed)) this.#opened.set(placed, model)
    return placed
  }

  serves(placed: MatchedAdapter): boolean {
    return this.#current.graph?.serves(placed) ?? false
  }

  /** Whether an adapter that is not placed yet would be served. */
  canServe(adapter: Adapter): boolean {
    const known = { places: this.#places, moduleNames: this.#moduleNames }
    return this.#knows(adapter) && this.serves(place('', adapter, known))
  }

  async rebuild(adapters: readonly MatchedAdapter[]): Promise<void> {
    const sessions = await this.#ofModel()
    const opened = adapters.flatMap((adapter) => this.#opened.get(adapter) ?? [])
    for (const adapter of adapters) this.#opened.delete(adapter)
    // Adapters that one graph cannot serve are refused before a session is closed for them.
    const plan = planFor(adapters)
    await this.#exchange(() => sessions.attached(plan, opened.at(-1)))
  }

  async merge(added: readonly Applied<MatchedAdapter>[]): Promise<SharedGraph> {
    const graph = this.#shared(await (await this.#ofModel()).merged(added))
    if (this.#ended === undefined) return graph
    this.discard(graph)
    throw invalidState(this.#ended)
  }

  discard(merged: SharedGraph): void {
    // That something is not freed which nobody uses any more does not make a verb fail.
    this.#close(merged).catch(() => undefined)
  }

  adapterOf({ source }: MatchedAdapter): Adapter {
    return source
  }

  /** @throws {FourierFTError} `INVALID_STATE` */
  checkLive(): void {
    if (this.#ended !== undefined) throw invalidState(this.#ended)
  }

  /**
   * The graph of a call that begins now, for all of its runs: the merged one where there is one. The call drops it when it ends.
   *
   * @throws {FourierFTError} `INVALID_STATE`
   */
  hold(merged: SharedGraph | undefined): SharedGraph {
    this.checkLive()
    return (merged ?? this.#current).hold()
  }

  /**
   * One run of a call.
   *
   * @throws {FourierFTError} `INVALID_OPTION` and `SHAPE_MISMATCH` for feeds that ONNX Runtime refuses; `INVALID_OPTION` where the batch
   *   cannot be divided among the rows' adapters; `INVALID_STATE`
   */
  async run(
    held: SharedGraph,
    choice: Choice<MatchedAdapter>,
    given: RunArguments,
  ): Promise<InferenceSession.ReturnType> {
    this.checkLive()
    const graph = held.graph ?? (await held.opened)
    if ('perRow' in choice) checkBatch(choice.perRow.length, graph.rowsIn(given.feeds))
    try {
      return await graph.run(choice, given)
    } catch (error) {
      throw FourierFTError.isInstance(error)
        ? error
        : (feedsError(given.feeds, this.signature, error) ?? error)
    }
  }

  /** The arguments of ONNX Runtime's `run`, as it tells them apart itself: an object that names an output is no options. */
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
   * The session with these adapters in its weights, for good. It is not closed with this host.
   *
   * @param merged what `merge` has made of them, where it has
   */
  async unload(
    added: readonly Applied<MatchedAdapter>[],
    merged: SharedGraph | undefined,
  ): Promise<InferenceSession> {
    if (merged === undefined) await this.#exchange(async () => (await this.#ofModel()).merged(added))
    else {
      this.discard(this.#current)
      this.#current = merged
    }
    return this.#given()
  }

  /** Another session of the model as it is takes the place of this one. It is not closed with this host. */
  async giveBack(create: () => Promise<InferenceSession>): Promise<InferenceSession> {
    await this.#exchange(async () => (await this.#ofModel()).graphFrom(create))
    return this.#given()
  }

  /**
   * The end: frees all sessions when the runs that are under way are done. Calls do without them then.
   *
   * @param reason what everything says afterwards
   */
  async release(reason: string): Promise<void> {
    this.#ended ??= reason
    await Promise.all(Array.from(this.#graphs, (graph) => graph.closeNow()))
  }

  #given(): InferenceSession {
    const { graph } = this.#current
    if (graph === undefined) throw invalidState(this.#ended ?? 'the session is being made')
    return graph.session
  }

  #shared(graph: AdaptedGraph | Promise<AdaptedGraph>): SharedGraph {
    const shared = new SharedGraph(graph)
    this.#graphs.add(shared)
    return shared
  }

  async #close(graph: SharedGraph): Promise<void> {
    await graph.close()
    this.#graphs.delete(graph)
  }

  async #ofModel(): Promise<ModelSessions> {
    this.#sessions ??= await this.#makeSessions()
    return this.#sessions
  }

  /**
   * Opens another graph in the place of this one. Where a call uses this one it goes on being used until the other is open, and closes
   * after its last call. Where none does it is closed first, so that the model is in memory once, and opened again if the other cannot be;
   * calls that begin meanwhile wait.
   */
  async #exchange(open: () => Promise<AdaptedGraph>): Promise<void> {
    // The model may have been released while its file was read.
    this.checkLive()
    const old = this.#current
    if (old.isUsed) {
      const next = this.#shared(await open())
      if (this.#ended !== undefined) {
        await next.closeNow()
        throw invalidState(this.#ended)
      }
      this.#current = next
      this.discard(old)
      return
    }
    let failure: { readonly error: unknown } | undefined
    this.#current = this.#shared(
      this.#reopen(old, open, (error) => {
        failure = { error }
      }),
    )
    const { opened } = this.#current
    await opened
    if (failure) throw failure.error
  }

  /** The other graph; or, where it cannot be made, the old one again. */
  async #reopen(
    old: SharedGraph,
    open: () => Promise<AdaptedGraph>,
    failed: (error: unknown) => void,
  ): Promise<AdaptedGraph> {
    const { plan } = await old.opened
    await this.#close(old).catch((cause) => {
      this.#graphs.delete(old)
      // Nothing is opened in the place of what others have closed: nobody would release that.
      throw this.#end(`the session was released elsewhere (${cause.message}); load the model again`, cause)
    })
    try {
      this.checkLive()
      return await open()
    } catch (error) {
      this.checkLive()
      failed(error)
      const sessions = await this.#ofModel()
      return await sessions.attached(plan).catch((cause) => {
        throw this.#end(
          `no session of the model can be made any more (${cause.message}); load the model again`,
          cause,
        )
      })
    }
  }

  #end(reason: string, cause: unknown): FourierFTError {
    this.#ended = reason
    return new FourierFTError('INVALID_STATE', reason, { cause })
  }

  /** Whether the adapter can be placed without the file: the adapter's weights of the base model are compared with those in it. */
  #knows(adapter: Adapter): boolean {
    const modules = modulesOf(withoutAbsent(adapter, this.#moduleNames))
    return adapter.baseTensors.size === 0 && modules.every((module) => this.#places.has(module))
  }
}

function checkBatch(rows: number, batch: number | undefined): void {
  if (rows > 0 && (batch === undefined || batch % rows === 0)) return
  throw new FourierFTError(
    'INVALID_OPTION',
    `adapters: the batch has ${batch} rows; it cannot be divided among ${rows} adapters. Name one for each row`,
    { option: 'adapters', expected: batch, received: rows },
  )
}

interface Known {
  readonly places: Map<string, LayerPlace>
  readonly moduleNames: ModuleNames
}

interface Opened extends Known {
  readonly sessions: ModelSessions
  readonly model: OpenModel
}

/** Adds the places of the adapter's modules to those that are known. */
async function findAll(source: Adapter, { sessions, model, places, moduleNames }: Opened): Promise<void> {
  const adapter = withoutAbsent(source, moduleNames)
  for (const [module, found] of await sessions.placesOf(model, adapter, moduleNames))
    places.set(module, found)
}

function place(name: string, source: Adapter, { places, moduleNames }: Known): MatchedAdapter {
  return { ...placeAdapter(name, withoutAbsent(source, moduleNames), places), source: source.withoutFiles() }
}
