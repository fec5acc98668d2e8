/** The adapters of one model: PEFT's verbs over all of its sessions. */
import {
  type Adapter,
  type AdapterSource,
  adapterNotFound,
  checkNames,
  checkNewName,
  invalidState,
  listOfNames,
  rejectTrainedBiases,
} from '@fourierft/core'
import { findLinearLayers, readModel } from '@fourierft/onnx'
import { type ModuleNames, withoutAbsent } from '@fourierft/onnxruntime'
import type { PreTrainedModel } from '@huggingface/transformers'
import type { InferenceSession } from 'onnxruntime-common'
import { overrideCalls, viewOf } from './call-views.js'
import { Calls } from './calls.js'
import { checkOptions } from './check-options.js'
import { divideAdapter, modulesOf } from './divide-adapter.js'
import { type PipelineLike, sessionsOf } from './library.js'
import type { ModelFiles } from './model-files.js'
import { type Choice, type LoadedAdapter, ModelPart, type PartOptions, PartSession } from './model-part.js'
import { type Place, placeModules } from './place-modules.js'
import { type ReadAdapterOptions, readAdapter } from './read-adapter.js'

export interface LoadOptions extends ReadAdapterOptions {
  /** What to call it. Default `default`. */
  readonly name?: string
}

/** What `attach` knows. */
export interface AdapterHost {
  readonly model: PreTrainedModel
  /** Whose calls are whole calls too, each with one choice of adapters. */
  readonly pipeline: PipelineLike | undefined
  readonly files: ModelFiles
  readonly options: PartOptions
}

/** Models whose weights are no longer those of their files. */
const merged = new WeakSet<PreTrainedModel>()

/** Whether `mergeAndUnload` has left adapters in the model's weights. */
export function isMergedForGood(model: PreTrainedModel): boolean {
  return merged.has(model)
}

export class ModelAdapters {
  readonly model: PreTrainedModel
  readonly #files: ModelFiles
  readonly #moduleNames: ModuleNames
  readonly #parts: readonly ModelPart[]
  readonly #calls = new Calls()
  readonly #adapters = new Map<string, LoadedAdapter>()
  readonly #restore: () => void
  /** Where modules of adapters were found. */
  readonly #places = new Map<string, Place<ModelPart>>()
  #active: readonly LoadedAdapter[] = []
  #merged: readonly LoadedAdapter[] = []
  #enabled = true
  #perRow: readonly (LoadedAdapter | null)[] | undefined
  #detached = false
  /** Counts what must not be missed while adapters are being merged. */
  #changes = 0
  /** How many changes are under way after which rows of a batch cannot have adapters of their own. */
  #endingRows = 0

  /** `attach` makes these. */
  constructor({ model, pipeline, files, options }: AdapterHost) {
    this.model = model
    this.#files = files
    this.#moduleNames = options.moduleNames
    const { sessions } = model
    const originals = [...sessionsOf(model)]
    this.#parts = originals.map(([name, session]) => new ModelPart(name, session, files, options))
    model.sessions = { ...sessions, ...this.#sessions(() => this.#choice()) }
    const restoreModel = overrideCalls(model, (call) => {
      const choice = this.#choice()
      return this.#calls.begin(() => call(this.#view(choice)))
    })
    const restorePipeline =
      pipeline &&
      overrideCalls(pipeline, (call) => {
        const choice = this.#choice()
        return this.#calls.begin(() => call(viewOf(pipeline, { model: this.#view(choice) })))
      })
    this.#restore = () => {
      restorePipeline?.()
      restoreModel()
      model.sessions = sessions
    }
  }

  /** Names of the active adapters; they stay active while they are disabled. */
  get activeAdapters(): readonly string[] {
    return this.#active.map(({ name }) => name)
  }

  /** Names of the adapters that are in the weights now. */
  get mergedAdapters(): readonly string[] {
    return this.#merged.map(({ name }) => name)
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
   * An adapter from the hub, a directory, a URL, files or memory, or one that is loaded already; active at once if it is the first. Where a
   * session has to be made anew, calls that were begun are done before, and calls that are begun meanwhile wait.
   *
   * @throws {FourierFTError} `ADAPTER_EXISTS`, `MODULE_NOT_FOUND`, `SHAPE_MISMATCH`, `UNSUPPORTED`, `INVALID_OPTION` for options that are none,
   *   or where `attach` was given another model's name, `INVALID_STATE` after `detach` or when the model was disposed of, and
   *   what `loadAdapter` of `@fourierft/core` throws; nothing is changed then
   */
  async loadAdapter(source: AdapterSource | Adapter, options: LoadOptions = {}): Promise<void> {
    checkOptions(options, "{ name: 'german' }")
    const { name = 'default', ...ofFiles } = options
    this.#checkNewName(name)
    const given = await readAdapter(source, ofFiles)
    rejectTrainedBiases(name, given.config)
    const adapter = withoutAbsent(given, this.#moduleNames)
    const include = () => this.#include(name, adapter)
    await (this.#serves(adapter) ? include() : this.#change(include))
  }

  /**
   * The active adapter, or several: what they change is added up. Calls that were begun keep theirs. A merged model is unmerged first, as
   * PEFT does.
   *
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`; `UNSUPPORTED` where two of them replace the same layer (`modulesToSave`); nothing is
   *   changed then
   */
  setAdapter(names: string | readonly string[]): void {
    this.#checkAttached()
    const active = this.#named(names)
    this.unmergeAdapter()
    for (const part of this.#parts) part.choose(active)
    this.#active = active
  }

  /** No adapter is applied: the base model's own bits (the README names what differs in the last ones). A merged model is unmerged. */
  disableAdapters(): void {
    this.unmergeAdapter()
    this.#enabled = false
  }

  /** The active adapters are applied again. */
  enableAdapters(): void {
    this.#checkAttached()
    this.#enabled = true
  }

  /**
   * Forgets an adapter. If it was active, the others that are active stay so; calls that were begun with it keep it. A merged model is
   * unmerged.
   *
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`
   */
  deleteAdapter(name: string): void {
    this.#checkAttached()
    const adapter = this.#adapter(name)
    this.unmergeAdapter()
    this.#adapters.delete(name)
    this.#active = this.#active.filter((active) => active !== adapter)
    // The model may have been disposed of by then.
    this.#calls
      .idle()
      .then(() => forget(adapter))
      .catch(() => undefined)
  }

  /**
   * Adds ΔW of the active adapters (or of the named ones) to the weights: sessions of the merged model, which cost nothing over the base
   * model. The others are kept, for `unmergeAdapter`; `mergeAndUnload` keeps one of each.
   *
   * @throws {FourierFTError} `INVALID_STATE` (merged already, disabled, no adapter; another verb was called meanwhile), `ADAPTER_NOT_FOUND`,
   *   `NOT_FINITE`, `UNSUPPORTED` for quantised weights; nothing is changed then
   */
  async mergeAdapter(names: string | readonly string[] = this.activeAdapters): Promise<void> {
    this.#checkMergeable(names)
    const changes = this.#changes
    await this.#changeEndingRows(async () => {
      this.#checkUnchangedSince(changes)
      const adapters = this.#checkMergeable(names)
      try {
        for (const part of this.#parts) await part.merge(adapters)
        this.#checkUnchangedSince(changes)
        this.#merged = adapters
      } catch (error) {
        for (const { adapted } of this.#parts) adapted?.unmergeAdapter()
        throw error
      }
    })
  }

  /** The base model's own weights again, and the active adapters beside them. Without effect where nothing is merged. */
  unmergeAdapter(): void {
    this.#checkAttached()
    this.#changes++
    if (this.#merged.length === 0) return
    this.#merged = []
    for (const { adapted } of this.#parts) adapted?.unmergeAdapter()
  }

  /**
   * The model with the active adapters inside of its weights, and without a trace of this package. All adapters are forgotten.
   *
   * @throws {FourierFTError} as `mergeAdapter`
   */
  async mergeAndUnload(): Promise<PreTrainedModel> {
    const changes = this.#changes
    // Where one of several sessions cannot be merged none is to be.
    if (this.#merged.length === 0 && this.#parts.length > 1) await this.mergeAdapter()
    if (this.#merged.length === 0) this.#checkMergeable(this.activeAdapters)
    await this.#changeEndingRows(async () => {
      this.#checkUnchangedSince(changes)
      const adapters = this.#merged.length > 0 ? this.#merged : this.#checkMergeable(this.activeAdapters)
      await this.#leave((part) => part.mergeForGood(adapters))
      merged.add(this.model)
    })
    return this.model
  }

  /**
   * Every call that the function begins has one adapter for each row of its batch: those before its first `await`. While adapters are
   * disabled each row is the base model's, as in PEFT; after `setAdapter([])`, where none is active, rows have theirs.
   *
   * @param names an adapter for each of equal parts of the batch (usually each row), null for the base model
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`, `INVALID_STATE` while merged or being merged; the call throws `INVALID_OPTION` for a batch that cannot be
   *   divided so, and `UNSUPPORTED` for an adapter with `modules_to_save` beside others
   */
  withAdapterPerRow<T>(names: readonly (string | null)[], run: () => T): T {
    this.#checkUnmerged()
    if (this.#endingRows > 0)
      throw invalidState('the adapters are being merged, or the model is being detached; await that first')
    checkNames('names', names)
    const before = this.#perRow
    this.#perRow = names.map((name) => (name === null ? null : this.#adapter(name)))
    try {
      return run()
    } finally {
      this.#perRow = before
    }
  }

  /**
   * Gives the model its own sessions back: the very ones, or, where an adapter had layers, new ones of the same files and options. All
   * adapters are forgotten; calls that were begun are done before.
   */
  async detach(): Promise<void> {
    this.#checkAttached()
    await this.#changeEndingRows(() => this.#leave((part) => part.restore()))
  }

  /** Files are read once, calls wait. */
  #change(work: () => Promise<void>): Promise<void> {
    return this.#calls.change(() => this.#files.during(work))
  }

  /** A call with rows would wait for it, and find no adapters for them then. */
  async #changeEndingRows(work: () => Promise<void>): Promise<void> {
    this.#endingRows++
    try {
      await this.#change(work)
    } finally {
      this.#endingRows--
    }
  }

  async #leave(session: (part: ModelPart) => Promise<InferenceSession>): Promise<void> {
    this.#checkAttached()
    const sessions = []
    for (const part of this.#parts) sessions.push([part.name, await session(part)] as const)
    this.#detached = true
    this.#adapters.clear()
    this.#active = []
    this.#merged = []
    this.#restore()
    for (const [name, each] of sessions) this.model.sessions[name] = each
  }

  #sessions(choice: () => Choice): Record<string, PartSession> {
    return Object.fromEntries(
      this.#parts.map((part) => [part.name, new PartSession(part, part.config, choice)]),
    )
  }

  #view(choice: Choice): PreTrainedModel {
    // A call may have waited for `detach`.
    if (this.#detached) return this.model
    return viewOf(this.model, { sessions: { ...this.model.sessions, ...this.#sessions(() => choice) } })
  }

  #choice(): Choice {
    if (!this.#enabled) return { added: [] }
    if (this.#merged.length > 0) return { added: this.#merged }
    return this.#perRow ? { perRow: this.#perRow } : { added: this.#active }
  }

  /** Whether no session has to be made for the adapter. */
  #serves(adapter: Adapter): boolean {
    if (this.#calls.isChanging) return false
    const [only, ...others] = this.#parts
    if (only && others.length === 0) return only.serves(adapter)
    if (modulesOf(adapter).some((module) => !this.#places.has(module))) return false
    const shares = divideAdapter(adapter, (module) => this.#places.get(module) as Place<ModelPart>)
    return Array.from(shares).every(([part, share]) => part.serves(share))
  }

  async #include(name: string, adapter: Adapter): Promise<void> {
    this.#checkNewName(name)
    const adapters = await this.#divide(adapter)
    const loaded = { name, id: this.#idFor(name), parts: new Set(adapters.keys()) }
    try {
      for (const [part, own] of adapters) await part.load(loaded.id, own)
    } catch (error) {
      forget(loaded)
      throw error
    }
    this.#adapters.set(name, loaded)
    if (this.#adapters.size === 1) this.#active = [loaded]
  }

  /** Another adapter that had the name may be in use still, by calls that were begun before it was deleted. */
  #idFor(name: string): string {
    const taken = this.#parts.flatMap(({ adapted }) => adapted?.listAdapters() ?? [])
    let id = name
    while (taken.includes(id)) id += '′'
    return id
  }

  /** Each part's share of an adapter. */
  async #divide(adapter: Adapter): Promise<ReadonlyMap<ModelPart, Adapter>> {
    const [only, ...others] = this.#parts
    if (only && others.length === 0) return new Map([[only, adapter]])
    const missing = modulesOf(adapter).filter((module) => !this.#places.has(module))
    if (missing.length > 0) {
      const parts = []
      for (const part of this.#parts) {
        const model = readModel(await this.#files.read(part.name), { file: part.name })
        parts.push({ part, name: part.name, layers: findLinearLayers(model) })
      }
      for (const [module, place] of placeModules(missing, parts, this.#moduleNames))
        this.#places.set(module, place)
    }
    return divideAdapter(adapter, (module) => this.#places.get(module) as Place<ModelPart>)
  }

  #adapter(name: string): LoadedAdapter {
    const adapter = this.#adapters.get(name)
    if (adapter) return adapter
    throw adapterNotFound(name, this.listAdapters())
  }

  #named(names: string | readonly string[]): LoadedAdapter[] {
    return [...new Set(listOfNames('names', names))].map((name) => this.#adapter(name))
  }

  #checkMergeable(names: string | readonly string[]): LoadedAdapter[] {
    this.#checkUnmerged()
    if (!this.#enabled) throw invalidState('the adapters are disabled; call enableAdapters() first')
    const adapters = this.#named(names)
    if (adapters.length > 0) return adapters
    throw invalidState('no adapter is active; call setAdapter() or name the adapters to merge')
  }

  #checkUnchangedSince(changes: number): void {
    if (this.#changes !== changes)
      throw invalidState('the adapters were changed while they were being merged; merge them again')
  }

  #checkUnmerged(): void {
    this.#checkAttached()
    if (this.#merged.length > 0)
      throw invalidState(`adapters ${this.mergedAdapters.join(', ')} are merged; call unmergeAdapter() first`)
  }

  #checkNewName(name: string): void {
    this.#checkAttached()
    checkNewName(name, this.#adapters)
  }

  #checkAttached(): void {
    if (this.#detached) throw invalidState('the model is detached; call attach() again')
    for (const part of this.#parts) part.checkLive()
  }
}

function forget({ id, parts }: LoadedAdapter): void {
  for (const { adapted } of parts) if (adapted?.listAdapters().includes(id)) adapted.deleteAdapter(id)
}
