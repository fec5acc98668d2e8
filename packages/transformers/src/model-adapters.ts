/** The adapters of one model: PEFT's verbs over all of its sessions, and calls that keep what they began with. */
import {
  type Adapter,
  AdapterSet,
  type AdapterSource,
  type CreateAdapterOptions,
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
  /** What to call it. Default `default`. */
  readonly name?: string
}

/** What `attach` knows. */
export interface AttachedModel {
  readonly model: PreTrainedModel
  /** Whose calls are whole calls too, each with one choice of adapters. */
  readonly pipeline: PipelineLike | undefined
  readonly parts: readonly ModelPart[]
  readonly host: ModelHost
}

/** Models whose weights are no longer those of their files. */
const merged = new WeakSet<PreTrainedModel>()

/** Whether `mergeAndUnload` has left adapters in the model's weights. */
export function isMergedForGood(model: PreTrainedModel): boolean {
  return merged.has(model)
}

const ENDED = 'the model is detached; call attach() again'

export class ModelAdapters extends AdapterSet<DividedAdapter, MergedParts> {
  readonly model: PreTrainedModel
  readonly #host: ModelHost
  readonly #parts: readonly ModelPart[]
  readonly #restore: () => void

  /** `attach` makes these. */
  constructor({ model, pipeline, parts, host }: AttachedModel) {
    super(host)
    this.model = model
    this.#host = host
    this.#parts = parts
    const { sessions } = model
    // A session that is run by itself is a call of its own.
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
   * An adapter from the hub, a directory, a URL, files or memory, or one that is loaded already; active at once if it is the first. Where a
   * session has to be made anew, calls go on meanwhile.
   *
   * @throws {FourierFTError} `ADAPTER_EXISTS`, `MODULE_NOT_FOUND`, `SHAPE_MISMATCH`, `UNSUPPORTED`, `INVALID_OPTION` for unknown options,
   *   or where `attach` was given another model's name, `INVALID_STATE` after `detach` or when the model was disposed of, and
   *   what `loadAdapter` of `@fourierft/core` throws; nothing is changed then
   */
  override async loadAdapter(source: AdapterSource | Adapter, options: LoadOptions = {}): Promise<void> {
    checkOptions(options, "{ name: 'german' }")
    const { name = 'default', ...ofFiles } = options
    await this.include(name, () => readAdapter(source, ofFiles))
  }

  /**
   * A fresh adapter for the layers whose names the model's files tell (or `moduleNames`), in all of its sessions; active at once if it is the
   * first. Nothing here trains it: `getAdapter` and `savePretrained` hand it on. Layers that it saves whole (`modulesToSave`) begin as
   * the model's own.
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
    await this.include(name, () => this.#host.newAdapter(config, options))
  }

  /**
   * The model with the active adapters inside of its weights, and without a trace of this package. All adapters are forgotten; calls that
   * have begun are not waited for.
   *
   * @throws {FourierFTError} as `mergeAdapter`
   */
  async mergeAndUnload(): Promise<PreTrainedModel> {
    await this.leave({ keep: 'merged', ended: ENDED }, async ({ added, merged: ready }) => {
      this.#give(await this.#host.leave(added, ready, this.placedAdapters()))
      merged.add(this.model)
    })
    return this.model
  }

  /**
   * Gives the model its own sessions back: the same objects, or, where an adapter had layers, new sessions of the same files and options. All
   * adapters are forgotten; calls that have begun go on with theirs.
   */
  async detach(): Promise<void> {
    await this.leave({ keep: 'base', ended: ENDED }, async ({ merged }) =>
      this.#give(await this.#host.leave([], merged, this.placedAdapters())),
    )
  }

  #give(sessions: ReadonlyMap<string, InferenceSession>): void {
    this.#restore()
    for (const [name, session] of sessions) this.model.sessions[name] = session
  }

  /** What a call has is fixed before anything is awaited. */
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
