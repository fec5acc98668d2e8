/** A session of ONNX Runtime with adapters: it is used as the ordinary one, and has PEFT's verbs. */
import {
  type Adapter,
  AdapterSet,
  type CreateAdapterOptions,
  checkNewAdapterName,
  type FourierFTConfig,
  type FourierFTOptions,
  type RowAdapter,
} from '@fourierft/core'
import type { InferenceSession } from 'onnxruntime-common'
import type { MatchedAdapter } from './layer-places.js'
import type { ModelSessions } from './model-sessions.js'
import type { ModuleNames } from './module-names.js'
import { newAdapter } from './new-adapter.js'
import { SessionHost } from './session-host.js'
import type { SharedGraph } from './shared-graph.js'

type Feeds = InferenceSession.FeedsType
type Fetches = InferenceSession.FetchesType

export interface RunOptions extends InferenceSession.RunOptions {
  /**
   * For each of as many equal parts of the batch (usually each row) its adapter, with a strength of its own where it is given as
   * `{ name, scale }`; null for none. Instead of the active ones.
   */
  readonly adapters?: readonly RowAdapter[]
}

const ENDED = 'the session was released; load the model again'

/** What `createSession` was given. */
export interface SessionParts {
  readonly adapters: ReadonlyMap<string, Adapter>
  readonly moduleNames: ModuleNames
  /** A session of the model as it is, where there is one. */
  readonly open: InferenceSession | undefined
}

export class AdaptedSession extends AdapterSet<MatchedAdapter, SharedGraph> {
  /** Why the native kernel does not serve here; undefined where it does. */
  readonly nativeProblem: string | undefined
  readonly #host: SessionHost

  private constructor(host: SessionHost, nativeProblem: string | undefined) {
    super(host)
    this.#host = host
    this.nativeProblem = nativeProblem
  }

  /** `createSession` makes these: one session, whether there are adapters or not. */
  static async create(
    sessions: ModelSessions,
    { adapters, moduleNames, open }: SessionParts,
  ): Promise<AdaptedSession> {
    const { nativeProblem } = sessions
    for (const name of adapters.keys()) checkNewAdapterName(name, new Set())
    if (open === undefined) {
      const { host, placed } = await SessionHost.open(sessions, moduleNames, adapters)
      const session = new AdaptedSession(host, nativeProblem)
      for (const [name, adapter] of placed) session.includeNow(name, () => adapter)
      return session
    }
    const graph = sessions.graphOf(open)
    const host = new SessionHost({ graph, sessions: async () => sessions, moduleNames })
    const session = new AdaptedSession(host, nativeProblem)
    try {
      for (const [name, adapter] of adapters) await session.loadAdapter(adapter, { name })
    } catch (error) {
      if (host.session !== open) await session.release()
      throw error
    }
    return session
  }

  /** Whether the branches are computed by the kernel of `@fourierft/native`. */
  get usesNativeKernel(): boolean {
    return this.nativeProblem === undefined
  }

  /** The model's own inputs. */
  get inputNames(): readonly string[] {
    return this.#host.signature.inputNames
  }

  get outputNames(): readonly string[] {
    return this.#host.signature.outputNames
  }

  get inputMetadata(): readonly InferenceSession.ValueMetadata[] {
    return this.#host.signature.inputMetadata
  }

  get outputMetadata(): readonly InferenceSession.ValueMetadata[] {
    return this.#host.signature.outputMetadata
  }

  /**
   * Runs the model with the adapters that are active now: what is set later changes nothing about a run that has begun. Arguments and
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
    const { fetches, options: all } = this.#host.runArguments<RunOptions>(feeds, fetchesOrOptions, options)
    const { adapters, ...runOptions }: RunOptions = all
    const { choice, merged } = this.callState(adapters)
    const graph = this.#host.hold(merged)
    try {
      return await this.#host.run(graph, choice, { feeds, fetches, options: runOptions })
    } finally {
      graph.drop()
    }
  }

  /** Whether `loadAdapter` would leave the session as it is: all that the adapter changes is changed by others too. */
  serves(adapter: Adapter): boolean {
    return this.#host.canServe(adapter)
  }

  /**
   * A fresh adapter for the layers whose names the file tells (or `moduleNames`); active at once if it is the first. Nothing here trains it:
   * `getAdapter` and `savePretrained` hand it on. Layers that it saves whole (`modulesToSave`) begin as the model's own.
   *
   * @param config which modules, how many coefficients, scaling, seed; PEFT's defaults for what is not given
   * @throws {FourierFTError} `ADAPTER_EXISTS`, `MODULE_NOT_FOUND`, `INVALID_OPTION`, `INVALID_ENTRY_COUNT`, `INVALID_PATTERN`; `UNSUPPORTED` for
   *   whole layers of quantised models; nothing is changed then
   */
  async addAdapter(
    name: string,
    config: FourierFTConfig | FourierFTOptions,
    options: CreateAdapterOptions = {},
  ): Promise<void> {
    await this.include(name, async () => newAdapter(await this.#host.namedLayers(), config, options))
  }

  /**
   * ONNX Runtime's own session of the model with the active adapters inside of its weights, and without a trace of this package. This
   * session is released.
   *
   * @throws {FourierFTError} as `mergeAdapter`
   */
  async mergeAndUnload(): Promise<InferenceSession> {
    return this.leave({ keep: 'merged', ended: ENDED }, ({ added, merged }) =>
      this.#host.unload(added, merged),
    )
  }

  /** Frees all sessions when their last runs are done; also what is left of a session that has ended by itself. */
  async release(): Promise<void> {
    this.finish(ENDED)
    await this.idle()
    await this.#host.release(ENDED)
  }
}
