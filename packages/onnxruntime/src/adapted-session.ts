/** `AdaptedSession`: used like an `InferenceSession` of ONNX Runtime, with PEFT's methods for adapters. */
import {
  type Adapter,
  AdapterSet,
  type CreateAdapterOptions,
  checkNewAdapterName,
  type Ending,
  type FourierFTConfig,
  type FourierFTOptions,
  type RowAdapter,
} from '@fourierft/core'
import type { InferenceSession } from 'onnxruntime-common'
import type { ModelSessions } from './model-sessions.js'
import type { ModuleNames } from './module-names.js'
import { newAdapter } from './new-adapter.js'
import type { SessionAdapter } from './session-adapter.js'
import { SessionHost } from './session-host.js'
import type { SharedGraph } from './shared-graph.js'
import type { Trainable, TrainableSession } from './trainer/trainable.js'

type Feeds = InferenceSession.FeedsType
type Fetches = InferenceSession.FetchesType

export interface RunOptions extends InferenceSession.RunOptions {
  /**
   * The adapters of this run, instead of the active ones: one for each row of the batch. If there are fewer, each applies to an equal share of the
   * batch. An element is a name, `{ name, scale }`, or null for no adapter.
   */
  readonly adapters?: readonly RowAdapter[]
}

const RELEASED: Ending = { problem: 'the session was released', advice: 'load the model again' }

export interface AdaptedSessionInit {
  readonly adapters: ReadonlyMap<string, Adapter>
  readonly moduleNames: ModuleNames
  /** The caller's open session of the original model. */
  readonly openSession: InferenceSession | undefined
}

export class AdaptedSession extends AdapterSet<SessionAdapter, SharedGraph> implements Trainable {
  /** The reason why the native kernel is not used; undefined if it is used. */
  readonly nativeProblem: string | undefined
  readonly #host: SessionHost

  private constructor(host: SessionHost, nativeProblem: string | undefined) {
    super(host)
    this.#host = host
    this.nativeProblem = nativeProblem
  }

  /** Called by `createSession`. */
  static async create(
    sessions: ModelSessions,
    { adapters, moduleNames, openSession }: AdaptedSessionInit,
  ): Promise<AdaptedSession> {
    const { nativeProblem } = sessions
    for (const name of adapters.keys()) checkNewAdapterName(name, new Set())
    if (openSession === undefined) {
      const { host, matched } = await SessionHost.open(sessions, moduleNames, adapters)
      const session = new AdaptedSession(host, nativeProblem)
      for (const [name, adapter] of matched) session.includeNow(name, () => adapter)
      return session
    }
    const graph = sessions.graphWithoutSlots(openSession)
    const host = new SessionHost({ graph, sessions: async () => sessions, moduleNames })
    const session = new AdaptedSession(host, nativeProblem)
    try {
      for (const [name, adapter] of adapters) await session.loadAdapter(adapter, { name })
    } catch (error) {
      if (host.session !== openSession) await session.release()
      throw error
    }
    return session
  }

  /** Whether the kernel of `@fourierft/native` computes the branches. */
  get usesNativeKernel(): boolean {
    return this.nativeProblem === undefined
  }

  /** The inputs of the original model. */
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
   * Runs the model with the adapters that are active now; later changes do not affect this run. Arguments and results are those of ONNX Runtime's
   * `InferenceSession.run`.
   *
   * @throws {FourierFTError} `INVALID_OPTION` and `SHAPE_MISMATCH` for feeds that ONNX Runtime rejects, `INVALID_STATE` after `release`; for
   *   the option `adapters`: `ADAPTER_NOT_FOUND`, `INVALID_STATE` while adapters are merged, `INVALID_OPTION` if the batch cannot be divided
   *   into equal shares for the adapters, and `UNSUPPORTED` if the adapters cannot share a batch
   */
  run(feeds: Feeds, options?: RunOptions): Promise<InferenceSession.ReturnType>
  run(feeds: Feeds, fetches: Fetches, options?: RunOptions): Promise<InferenceSession.ReturnType>
  async run(
    feeds: Feeds,
    fetchesOrOptions?: Fetches | RunOptions,
    options?: RunOptions,
  ): Promise<InferenceSession.ReturnType> {
    const { fetches, options: allOptions } = this.#host.runArguments<RunOptions>(
      feeds,
      fetchesOrOptions,
      options,
    )
    const { adapters, ...runOptions }: RunOptions = allOptions
    const { choice, merged } = this.callState(adapters)
    const graph = this.#host.hold(merged)
    try {
      return await this.#host.run(graph, choice, { feeds, fetches, options: runOptions })
    } finally {
      graph.drop()
    }
  }

  /** @internal What a trainer needs of this session. */
  get trainable(): TrainableSession {
    return {
      adapterToTrain: (name) => this.chosenAdapter(name),
      openTraining: (adapter, settings) => this.#host.openTraining(adapter, settings),
      trainAdapter: (name, work) => this.train(work, name),
      replaceAdapter: (name, adapter) => this.replace(name, adapter),
    }
  }

  /** Returns whether `loadAdapter` can add the adapter without creating a new session. */
  serves(adapter: Adapter): boolean {
    return this.#host.canServe(adapter)
  }

  /**
   * Creates an adapter for the layers whose names are in the file or in `moduleNames`. It becomes active if it is the first. `createTrainer`
   * trains it. Layers in its `modulesToSave` start with the model's own weights.
   *
   * @param config modules, number of coefficients, scaling, seed. The defaults are PEFT's, except that the coefficients start at zero:
   *   the adapter changes nothing until it is trained. PEFT's random coefficients come with `initWeights: false`, or from `createConfig`
   * @throws {FourierFTError} `ADAPTER_EXISTS`, `MODULE_NOT_FOUND`, `INVALID_OPTION`, `INVALID_ENTRY_COUNT`, `INVALID_PATTERN`; `UNSUPPORTED` if
   *   a layer in `modulesToSave` is quantised; an error changes nothing
   */
  async addAdapter(
    name: string,
    config: FourierFTConfig | FourierFTOptions,
    options: CreateAdapterOptions = {},
  ): Promise<void> {
    await this.include(name, async () => newAdapter(await this.#host.namedLayers(), config, options))
  }

  /**
   * Merges the active adapters permanently, and releases this session.
   *
   * @returns a plain `InferenceSession`
   * @throws {FourierFTError} as `mergeAdapter`
   */
  async mergeAndUnload(): Promise<InferenceSession> {
    return this.leave({ keep: 'merged', ended: RELEASED }, ({ added, merged }) =>
      this.#host.unload(added, merged),
    )
  }

  /**
   * Releases all sessions after their current runs, also after the session has ended by a failure, and the trainers of its adapters.
   *
   * @throws {FourierFTError} `INVALID_STATE` during a step of a trainer
   */
  async release(): Promise<void> {
    this.finish(RELEASED)
    await this.idle()
    await this.#host.release(RELEASED)
  }
}
