/** `ModelAdapters`: the adapters of one model. PEFT's verbs apply to all of its sessions, and a call keeps the adapters it started with. */
import {
  type Adapter,
  AdapterSet,
  type AdapterSource,
  type CreateAdapterOptions,
  type Ending,
  type FourierFTConfig,
  type FourierFTOptions,
} from '@fourierft/core'
import type { PreTrainedModel } from '@huggingface/transformers'
import type { InferenceSession } from 'onnxruntime-common'
import { overrideCalls, viewOf } from './call-views.js'
import { checkOptions } from './check-options.js'
import type { PipelineLike } from './library.js'
import type { DividedAdapter, HeldParts, MergedParts, ModelHost } from './model-host.js'
import { type ModelPart, PartSession, type RunArguments } from './model-part.js'
import { type ReadAdapterOptions, readAdapter } from './read-adapter.js'

export interface LoadOptions extends ReadAdapterOptions {
  /** The adapter's name. Default: `default`. */
  readonly name?: string
}

export interface ModelAdaptersInit {
  readonly model: PreTrainedModel
  /** A call of the pipeline has one choice of adapters for all calls of the model within it. */
  readonly pipeline: PipelineLike | undefined
  readonly parts: readonly ModelPart[]
  readonly host: ModelHost
}

/** Models whose weights differ from their files. */
const mergedForGood = new WeakSet<PreTrainedModel>()

/** Whether `mergeAndUnload` has left adapters in the model's weights. */
export function isMergedForGood(model: PreTrainedModel): boolean {
  return mergedForGood.has(model)
}

const DETACHED: Ending = { problem: 'the model is detached', advice: 'call attach() again' }

export class ModelAdapters extends AdapterSet<DividedAdapter, MergedParts> {
  readonly model: PreTrainedModel
  readonly #host: ModelHost
  readonly #parts: readonly ModelPart[]
  readonly #restore: () => void

  /** Called by `attach`. */
  constructor({ model, pipeline, parts, host }: ModelAdaptersInit) {
    super(host)
    this.model = model
    this.#host = host
    this.#parts = parts
    const { sessions } = model
    // Running a session directly is a call of its own.
    model.sessions = {
      ...sessions,
      ...this.#sessions((part, args) => this.#call((held) => host.run(held, part, args))),
    }
    const restoreModel = overrideCalls(model, (call) => this.#call((held) => call(this.#view(held))))
    const restorePipeline =
      pipeline &&
      overrideCalls(pipeline, (call) =>
        this.#call((held) => call(viewOf(pipeline, { model: this.#view(held) }))),
      )
    this.#restore = () => {
      restorePipeline?.()
      restoreModel()
      model.sessions = sessions
    }
  }

  /**
   * Loads an adapter from the hub, a directory, a URL, files or memory, or takes an `Adapter`. It is active if it is the first. If it needs new
   * sessions, calls continue meanwhile.
   *
   * @throws {FourierFTError} `ADAPTER_EXISTS`, `MODULE_NOT_FOUND`, `SHAPE_MISMATCH`, `UNSUPPORTED`; `INVALID_OPTION` for invalid options, or if
   *   the option `model` of `attach` names another model; `INVALID_STATE` after `detach` or when the model was disposed of; and the errors of
   *   `loadAdapter` of `@fourierft/core`; an error changes nothing
   */
  override async loadAdapter(source: AdapterSource | Adapter, options: LoadOptions = {}): Promise<void> {
    checkOptions(options, "{ name: 'german' }")
    const { name = 'default', ...readOptions } = options
    await this.include(name, () => readAdapter(source, readOptions))
  }

  /**
   * Adds a new adapter for the layers of all sessions whose names are in the model's files or in `moduleNames`; it is active if it is the first.
   * It cannot be trained here, but `getAdapter` and `savePretrained` export it. Layers that it saves whole (`modulesToSave`) start with the
   * model's own weights.
   *
   * @param config modules, number of coefficients, scaling, seed; the defaults are PEFT's
   * @throws {FourierFTError} `ADAPTER_EXISTS`, `MODULE_NOT_FOUND`, `INVALID_OPTION`, `INVALID_ENTRY_COUNT`, `INVALID_PATTERN`; `UNSUPPORTED` if
   *   a layer to be saved whole is quantised; an error changes nothing
   */
  async addAdapter(
    name: string,
    config: FourierFTConfig | FourierFTOptions,
    options: CreateAdapterOptions = {},
  ): Promise<void> {
    await this.include(name, () => this.#host.newAdapter(config, options))
  }

  /**
   * Writes the active adapters into the weights for good, and detaches the model. All adapters are removed; running calls are not awaited.
   *
   * @returns the model, with plain sessions of ONNX Runtime
   * @throws {FourierFTError} as `mergeAdapter`
   */
  async mergeAndUnload(): Promise<PreTrainedModel> {
    await this.leave({ keep: 'merged', ended: DETACHED }, async ({ added, merged }) => {
      this.#handBack(await this.#host.leave(added, merged, this.matchedAdapters()))
      mergedForGood.add(this.model)
    })
    return this.model
  }

  /**
   * Gives the model its own sessions back: the same objects or, if an adapter had layers in a session, a new one from the same file and options.
   * All adapters are removed; running calls keep theirs. Sessions that were closed elsewhere (`dispose`) stay closed.
   */
  async detach(): Promise<void> {
    try {
      await this.leave({ keep: 'base', ended: DETACHED }, async ({ merged }) =>
        this.#handBack(await this.#host.leave([], merged, this.matchedAdapters())),
      )
    } catch (error) {
      if (!this.#host.isClosed) throw error
      const { adapters, merged } = this.finish(DETACHED)
      await this.idle()
      this.#handBack(await this.#host.leave([], merged, adapters))
    }
  }

  #handBack(sessions: ReadonlyMap<string, InferenceSession>): void {
    this.#restore()
    for (const [name, session] of sessions) this.model.sessions[name] = session
  }

  /** Fixes the adapters of the call before anything is awaited. */
  async #call<T>(work: (held: HeldParts) => Promise<T>): Promise<T> {
    const { choice, merged } = this.callState()
    const held = this.#host.hold(choice, merged)
    try {
      return await work(held)
    } finally {
      this.#host.drop(held)
    }
  }

  #sessions(
    run: (part: ModelPart, args: RunArguments) => Promise<InferenceSession.ReturnType>,
  ): Record<string, PartSession> {
    return Object.fromEntries(
      this.#parts.map((part) => [part.name, new PartSession(part, (args) => run(part, args))]),
    )
  }

  #view(held: HeldParts): PreTrainedModel {
    const sessions = this.#sessions((part, args) => this.#host.run(held, part, args))
    return viewOf(this.model, { sessions: { ...this.model.sessions, ...sessions } })
  }
}
