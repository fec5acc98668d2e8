/**
 * One of the sessions of a model: transformers.js's own until an adapter has layers in it, an adapted one from then on. What stands in
 * `model.sessions` is a `PartSession`, which stays.
 */
import { type Adapter, invalidState } from '@fourierft/core'
import { type AdaptedSession, createSession, type ModuleNames, type Ort } from '@fourierft/onnxruntime'
import type { InferenceSession } from 'onnxruntime-common'
import { type ModelSession, ortOf } from './library.js'
import type { ModelFiles } from './model-files.js'

/** An adapter of the model. */
export interface LoadedAdapter {
  readonly name: string
  /** What its parts call it: another one of the name may be loaded while calls still use this one. */
  readonly id: string
  readonly parts: ReadonlySet<ModelPart>
}

/** What a call applies: adapters that are added, or one (null: none) for each of equal parts of the batch. */
export type Choice =
  | { readonly added: readonly LoadedAdapter[] }
  | { readonly perRow: readonly (LoadedAdapter | null)[] }

export interface PartOptions {
  readonly moduleNames: ModuleNames
  readonly native: 'auto' | boolean
}

type RunArguments = Parameters<InferenceSession['run']>

export class ModelPart {
  readonly name: string
  /** What there is without adapters; released as soon as there is an adapted one. */
  #own: InferenceSession
  readonly #files: ModelFiles
  readonly #options: PartOptions
  #adapted: AdaptedSession | undefined
  #released = false

  constructor(name: string, own: InferenceSession, files: ModelFiles, options: PartOptions) {
    this.name = name
    this.#own = own
    this.#files = files
    this.#options = options
  }

  get session(): AdaptedSession | InferenceSession {
    return this.#adapted ?? this.#own
  }

  /** What transformers.js keeps at a session: dtype and device. */
  get config(): unknown {
    return (this.#own as ModelSession).config
  }

  /** Undefined while no adapter has layers here. */
  get adapted(): AdaptedSession | undefined {
    return this.#adapted
  }

  /** Whether `load` makes no session. */
  serves(adapter: Adapter): boolean {
    return this.#adapted?.serves(adapter) ?? false
  }

  /** @throws {FourierFTError} `INVALID_STATE` after `release`, what `AdaptedSession.loadAdapter` throws; nothing is changed then */
  async load(id: string, adapter: Adapter): Promise<void> {
    this.checkLive()
    this.#adapted ??= await this.#adapt()
    // Released while the files were looked for: no session is to be made any more.
    this.checkLive()
    await this.#adapted.loadAdapter(adapter, { name: id })
  }

  async run(choice: Choice, args: RunArguments): Promise<InferenceSession.ReturnType> {
    this.checkLive()
    const session = this.#adapted
    if (session === undefined) return this.#own.run(...args)
    if (session.mergedAdapters.length > 0) return session.run(...args)
    if ('perRow' in choice) {
      const ids = choice.perRow.map((adapter) => (adapter?.parts.has(this) ? adapter.id : null))
      return session.withAdapterPerRow(ids, () => session.run(...args))
    }
    // What is set when the run begins is what it applies.
    this.choose(choice.added)
    return session.run(...args)
  }

  /** What transformers.js does when the model is disposed of. */
  release(): Promise<void> {
    this.#released = true
    return this.session.release()
  }

  /** @throws {FourierFTError} `INVALID_STATE` */
  checkLive(): void {
    if (this.#released) throw invalidState('the model was disposed of; load it once more')
  }

  /** Sets those of the adapters that have layers here. @throws {FourierFTError} as `AdaptedSession.setAdapter` */
  choose(adapters: readonly LoadedAdapter[]): void {
    this.#adapted?.setAdapter(this.#idsOf(adapters))
  }

  #idsOf(adapters: readonly LoadedAdapter[]): string[] {
    return adapters.filter(({ parts }) => parts.has(this)).map(({ id }) => id)
  }

  /** Of the adapters those that have layers here go into the weights. */
  async merge(adapters: readonly LoadedAdapter[]): Promise<void> {
    const ids = this.#idsOf(adapters)
    if (ids.length > 0) await this.#adapted?.mergeAdapter(ids)
  }

  /** A session with those adapters in its weights for good. */
  async mergeForGood(adapters: readonly LoadedAdapter[]): Promise<InferenceSession> {
    if (this.#adapted === undefined || this.#idsOf(adapters).length === 0) return this.restore()
    if (this.#adapted.mergedAdapters.length === 0) this.choose(adapters)
    return this.#leave(await this.#adapted.mergeAndUnload())
  }

  /** The session as it was before it was adapted: itself, or one of its bits. */
  async restore(): Promise<InferenceSession> {
    if (this.#adapted === undefined) return this.#own
    const { InferenceSession } = await ortOf(this.#own)
    // Nothing is given up before the files are found.
    const { model, options } = await this.#files.origin(this.name)
    await this.#adapted.release()
    const session =
      typeof model === 'string'
        ? await InferenceSession.create(model, options)
        : await InferenceSession.create(model, options)
    return this.#leave(session)
  }

  #leave(session: InferenceSession): InferenceSession {
    this.#own = Object.assign(session, { config: this.config })
    this.#adapted = undefined
    return session
  }

  async #adapt(): Promise<AdaptedSession> {
    const ort: Ort = await ortOf(this.#own)
    const { model, options } = await this.#files.of(this.name)
    return createSession(model, { ...options, ...this.#options, ort, session: this.#own })
  }
}

/** Looks like a session of ONNX Runtime. */
export class PartSession implements ModelSession {
  readonly part: ModelPart
  /** transformers.js keeps dtype and device here. */
  config: unknown
  readonly #choice: () => Choice

  /** @param choice what a run applies */
  constructor(part: ModelPart, config: unknown, choice: () => Choice) {
    this.part = part
    this.config = config
    this.#choice = choice
  }

  get inputNames(): readonly string[] {
    return this.part.session.inputNames
  }

  get outputNames(): readonly string[] {
    return this.part.session.outputNames
  }

  get inputMetadata(): readonly InferenceSession.ValueMetadata[] {
    return this.part.session.inputMetadata
  }

  get outputMetadata(): readonly InferenceSession.ValueMetadata[] {
    return this.part.session.outputMetadata
  }

  run(...args: RunArguments): Promise<InferenceSession.ReturnType> {
    return this.part.run(this.#choice(), args)
  }

  release(): Promise<void> {
    return this.part.release()
  }
}
