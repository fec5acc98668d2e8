/**
 * The adapters of one model: PEFT's verbs, their states and their order, whatever the runtime. Each runtime extends this class with its
 * ways of calling and ending a model, and fills in the port `AdapterHost`.
 *
 * Verbs that return nothing take effect at once. Verbs that return a promise take their turn in one queue. A call applies what was chosen
 * when it began (`callState`), whatever is set, loaded, deleted or merged until it ends. A failed verb leaves everything as it was.
 */
import { Adapter } from '../adapter/adapter.js'
import { checkAdapterNames, checkNewAdapterName, listOfNames } from '../adapter/adapter-names.js'
import { rejectTrainedBiases } from '../adapter/trained-biases.js'
import { adapterNotFound, FourierFTError, invalidState } from '../errors.js'
import { type AdapterSource, type LoadAdapterOptions, loadAdapter } from '../files/load-adapter.js'
import { savePretrained } from '../files/save-pretrained.js'
import type { WriteOptions } from '../files/write-adapter.js'
import type { Applied, RowAdapter } from './choice.js'
import type { AdapterHost, CallState, MatchedAdapter } from './host.js'

interface Loaded<P> {
  readonly name: string
  readonly adapter: P
  scale: number
}

interface Merged<P, M> {
  readonly names: readonly string[]
  readonly added: readonly Applied<P>[]
  readonly merged: M
}

export abstract class AdapterSet<P extends MatchedAdapter, M> {
  readonly #host: AdapterHost<P, M>
  readonly #adapters = new Map<string, Loaded<P>>()
  /** Loads that were called and have not ended. */
  readonly #loads = new Set<object>()
  readonly #trained = new Set<Loaded<P>>()
  #active: readonly Loaded<P>[] = []
  #enabled = true
  #merged: Merged<P, M> | undefined
  /** Of each `withAdapterPerRow` that is running, the innermost last. */
  readonly #rows: (readonly (Applied<P> | null)[])[] = []
  /** While a merge is called and not ended. */
  #merging = false
  /** While the model is given up: what calls apply that begin meanwhile. */
  #leaving: CallState<P, M> | undefined
  /** Why no verb can be called any more. */
  #ended: string | undefined
  /** Counts the changes that a merge under way must not miss. */
  #changes = 0
  #lastTurn: Promise<unknown> = Promise.resolve()
  /** Ends what waits for files when the model ends. */
  readonly #end = new AbortController()

  constructor(host: AdapterHost<P, M>) {
    this.#host = host
  }

  /** Names of the active adapters; they stay active while they are disabled. */
  get activeAdapters(): readonly string[] {
    return this.#active.map(({ name }) => name)
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
   * An adapter from a directory, the hub, a URL, files or memory, or one that is loaded already; active at once if it is the first.
   * Where the model has to be rebuilt for it, calls go on meanwhile.
   *
   * @param options `name` (default `default`), and how to read the files
   * @throws {FourierFTError} `ADAPTER_EXISTS`, `MODULE_NOT_FOUND`, `SHAPE_MISMATCH`, `UNSUPPORTED`, `INVALID_STATE` after the model's end,
   *   and what `loadAdapter` of `@fourierft/core` throws; nothing is changed then
   */
  async loadAdapter(
    source: AdapterSource | Adapter,
    { name = 'default', ...options }: LoadAdapterOptions & { readonly name?: string } = {},
  ): Promise<void> {
    await this.include(name, () => (Adapter.isInstance(source) ? source : loadAdapter(source, options)))
  }

  /**
   * The active adapter, or several: what they change is added up. A name counts once. Calls that have begun keep theirs. A merged model is
   * unmerged first, as in PEFT.
   *
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`, `INVALID_OPTION` for anything but a name or a list of names; `UNSUPPORTED` where two of
   *   them replace the same layer (`modulesToSave`); nothing is changed then
   */
  setAdapter(names: string | readonly string[]): void {
    this.#checkLive()
    const active = this.#named(names)
    this.#checkAddable(active)
    this.#unmerge()
    this.#active = active
    this.#update()
  }

  /** No adapter is applied: the base model for every call, for rows with adapters of their own too. A merged model is unmerged. */
  disableAdapters(): void {
    this.#checkLive()
    this.#unmerge()
    this.#enabled = false
    this.#update()
  }

  /** The active adapters are applied again. */
  enableAdapters(): void {
    this.#checkLive()
    this.#enabled = true
    this.#update()
  }

  /**
   * How strongly an adapter is applied, from the next call on, as PEFT's `set_scale` for LoRA. Adapters in the weights keep the strength
   * that they were merged with until they are unmerged.
   *
   * @param scale factor on ΔW; 1 is the file's own strength, 0 none. It does not change whole layers (`modulesToSave`)
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`, `INVALID_OPTION` for anything but a finite number
   */
  setScale(name: string, scale: number): void {
    this.#checkLive()
    const loaded = this.#loaded(name)
    checkScale(scale)
    loaded.scale = scale
    this.#update()
  }

  /** @throws {FourierFTError} `ADAPTER_NOT_FOUND` */
  scaleOf(name: string): number {
    this.#checkNotEnded()
    return this.#loaded(name).scale
  }

  /**
   * Forgets an adapter. If it was active, the others that are active stay so; calls that have begun with it keep it. A merged model is
   * unmerged.
   *
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`, `INVALID_STATE` for one that is being trained, and for one of the rows of
   *   `withAdapterPerRow` while its function runs
   */
  deleteAdapter(name: string): void {
    this.#checkLive()
    const loaded = this.#loaded(name)
    this.#checkUntrained([loaded])
    if (this.#rows.flat().some((row) => row?.adapter === loaded.adapter))
      throw invalidState(
        `adapter '${name}' has rows in withAdapterPerRow; delete it when the function has returned`,
      )
    this.#unmerge()
    this.#adapters.delete(name)
    this.#active = this.#active.filter((active) => active !== loaded)
    this.#update()
    this.#host.forget?.(loaded.adapter)
  }

  /**
   * Puts the active adapters (or the named ones) into the weights: ΔW at the strength of this moment, and whole layers. The model then costs what
   * the base model costs. `unmergeAdapter` takes them out again.
   *
   * @throws {FourierFTError} `INVALID_STATE` (merged already, another merge under way, disabled, no adapter, one that is being trained,
   *   another verb was called meanwhile), `ADAPTER_NOT_FOUND`, `NOT_FINITE`, `UNSUPPORTED`; nothing is changed then
   */
  async mergeAdapter(names?: string | readonly string[]): Promise<void> {
    this.#checkLive()
    this.#checkNoMerge()
    const wanted = names === undefined ? undefined : listOfNames('names', names)
    const changes = this.#changes
    const scales = new Map(Array.from(this.#adapters.values(), (each) => [each, each.scale]))
    this.#merging = true
    try {
      await this.#inTurn(async () => {
        this.#checkUnchangedSince(changes)
        const chosen = this.#mergeable(wanted)
        // An adapter that was still being loaded had no other strength.
        const added = chosen.map((each) => ({ adapter: each.adapter, scale: scales.get(each) ?? 1 }))
        const merged = await this.#host.merge(added).catch((error) => {
          // An adapter that was deleted meanwhile cannot be merged: that is what to say then.
          this.#checkUnchangedSince(changes)
          throw error
        })
        try {
          this.#checkUnchangedSince(changes)
          this.#host.checkMerged?.(merged)
        } catch (error) {
          this.#host.discard(merged)
          throw error
        }
        this.#merged = { names: chosen.map(({ name }) => name), added, merged }
        this.#update()
      })
    } finally {
      this.#merging = false
    }
  }

  /** The base model has its own weights again, and the active adapters are applied beside them. Changes nothing where nothing is merged. */
  unmergeAdapter(): void {
    this.#checkLive()
    this.#unmerge()
    this.#update()
  }

  /**
   * Every call that the function begins has one adapter for each row of its batch: calls before the function's first `await`.
   *
   * @param names the adapter of each of equal parts of the batch (usually of each row)
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`, `INVALID_OPTION`, `INVALID_STATE` while merged, `UNSUPPORTED` for adapters with
   *   `modulesToSave` beside others
   */
  withAdapterPerRow<T>(names: readonly RowAdapter[], run: () => T): T {
    this.#rows.push(this.#rowAdapters('names', names))
    try {
      this.#update()
      return run()
    } finally {
      this.#rows.pop()
      if (this.#ended === undefined) this.#update()
    }
  }

  /**
   * The adapter with its numbers as they are now: to be saved, sent, or loaded elsewhere.
   *
   * @param name default: the active one
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`, `INVALID_STATE` where no name is given and not exactly one adapter is active
   */
  async getAdapter(name?: string): Promise<Adapter> {
    this.#checkLive()
    return this.#host.adapterOf((name === undefined ? this.#onlyActive() : this.#loaded(name)).adapter)
  }

  /**
   * Writes the two files of an adapter as it is now; during training as it is after the last whole step. See `savePretrained` of
   * `@fourierft/core`.
   *
   * @param options `name` of the adapter (default: the active one), and the form of the files
   */
  async savePretrained(
    directory: string | URL,
    { name, ...form }: WriteOptions & { readonly name?: string } = {},
  ): Promise<void> {
    await savePretrained(await this.getAdapter(name), directory, form)
  }

  /**
   * What a call that begins now applies. Later verbs leave it alone.
   *
   * @param rows an adapter for each row, in place of the active ones
   * @throws {FourierFTError} `INVALID_STATE` after the model's end; for `rows` as `withAdapterPerRow`
   */
  protected callState(rows?: readonly RowAdapter[]): CallState<P, M> {
    this.#checkNotEnded()
    return this.#stateFor(rows === undefined ? this.#rows.at(-1) : this.#rowAdapters('adapters', rows))
  }

  /**
   * Takes a new adapter in, in turn. `make` begins at once.
   *
   * @throws {FourierFTError} what `make` and the host throw, `ADAPTER_EXISTS`, `INVALID_STATE`; nothing is changed then
   */
  protected async include(name: string, make: () => Adapter | Promise<Adapter>): Promise<void> {
    this.#checkNewAdapterName(name)
    const load = {}
    this.#loads.add(load)
    const made = Promise.resolve().then(make)
    // A file that cannot be read does not count as a change, so that a merge under way goes on.
    made.catch(() => this.#loads.delete(load))
    await this.#inTurn(async () => {
      try {
        const adapter = await unlessAborted(made, this.#end.signal)
        this.#checkNewAdapterName(name)
        rejectTrainedBiases(name, adapter.config)
        const placed = await this.#host.place(name, adapter)
        try {
          if (!this.#host.serves(placed)) await this.#host.rebuild([...this.placedAdapters(), placed])
          // The model may have been released meanwhile.
          this.#checkNewAdapterName(name)
        } catch (error) {
          this.#host.forget?.(placed)
          throw error
        }
        this.#add(name, placed)
      } finally {
        this.#loads.delete(load)
      }
    })
  }

  /** As `include`, but at once: for a host that places adapters at once and never rebuilds. */
  protected includeNow(name: string, make: () => P): void {
    this.#checkNewAdapterName(name)
    const placed = make()
    this.#changes++
    this.#add(name, placed)
  }

  /** @throws {FourierFTError} `ADAPTER_NOT_FOUND`, `INVALID_STATE` after the model's end */
  protected placed(name: string): P {
    this.#checkNotEnded()
    return this.#loaded(name).adapter
  }

  /**
   * Changes an adapter's numbers at once.
   *
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`, `INVALID_STATE` while merged, and what `work` throws
   */
  protected edit(name: string, work: (adapter: P) => void): void {
    this.#checkLive()
    const { adapter } = this.#loaded(name)
    if (this.#merged) throw invalidState('the model is merged; call unmergeAdapter() first')
    work(adapter)
    // A merge that is under way must not use the old numbers.
    this.#changes++
  }

  protected placedAdapters(): P[] {
    return Array.from(this.#adapters.values(), ({ adapter }) => adapter)
  }

  /**
   * Runs a training of the active adapters (or of the named ones). Until it ends they cannot be deleted, merged, or trained a second time.
   * All other verbs work, and the training goes on with what it began with.
   *
   * @param work is handed the adapters to train
   * @throws {FourierFTError} `INVALID_STATE` (merged, disabled, no adapter, trained already), `ADAPTER_NOT_FOUND`
   */
  protected async train<T>(
    work: (added: readonly Applied<P>[]) => Promise<T>,
    names: string | readonly string[] = this.activeAdapters,
  ): Promise<T> {
    const trained = this.#trainable(names)
    // A merge that is under way must not take half-trained coefficients.
    this.#changes++
    for (const each of trained) this.#trained.add(each)
    try {
      return await work(trained.map(applied))
    } finally {
      for (const each of trained) this.#trained.delete(each)
    }
  }

  /**
   * Gives the model up, in turn, with its adapters in the weights (`keep: 'merged'`) or without them (`keep: 'base'`). Afterwards every
   * verb is refused. Calls that begin while `work` runs apply what is kept.
   *
   * @param work gets what is kept: the adapters, and what `merge` made of them if they are merged already
   * @param ended why no verb can be called afterwards
   */
  protected async leave<T>(
    { keep, ended }: { readonly keep: 'base' | 'merged'; readonly ended: string },
    work: (state: { readonly added: readonly Applied<P>[]; readonly merged: M | undefined }) => Promise<T>,
  ): Promise<T> {
    this.#checkLive()
    this.#checkNoMerge()
    const changes = this.#changes
    this.#merging = true
    try {
      return await this.#inTurn(async () => {
        // What is set meanwhile makes no difference to the base model.
        if (keep === 'base') this.#checkLive()
        else this.#checkUnchangedSince(changes)
        const added = keep === 'base' ? [] : (this.#merged?.added ?? this.#mergeable(undefined).map(applied))
        this.#checkUntrained([...this.#adapters.values()])
        const merged = this.#merged?.merged
        this.#leaving = { choice: { added }, merged: keep === 'base' ? undefined : merged }
        try {
          const result = await work({ added, merged })
          this.#finish(ended)
          return result
        } finally {
          this.#leaving = undefined
        }
      })
    } finally {
      this.#merging = false
    }
  }

  /**
   * Ends the set at once: every verb is refused from now on. A set whose model was closed elsewhere can be ended too.
   *
   * @throws {FourierFTError} `INVALID_STATE` after an end, and while an adapter is being trained
   * @returns what the host has to free
   */
  protected finish(ended: string): { readonly adapters: readonly P[]; readonly merged: M | undefined } {
    if (this.#ended !== undefined) throw invalidState(this.#ended)
    this.#checkNotLeaving()
    this.#checkUntrained([...this.#adapters.values()])
    return this.#finish(ended)
  }

  #finish(ended: string): { readonly adapters: readonly P[]; readonly merged: M | undefined } {
    const left = { adapters: this.placedAdapters(), merged: this.#merged?.merged }
    this.#ended = ended
    this.#end.abort(invalidState(ended))
    this.#adapters.clear()
    this.#active = []
    this.#merged = undefined
    return left
  }

  /** Resolves when the verbs that were called before have ended. */
  protected async idle(): Promise<void> {
    await this.#lastTurn
  }

  #add(name: string, adapter: P): void {
    const loaded = { name, adapter, scale: 1 }
    this.#adapters.set(name, loaded)
    if (this.#adapters.size === 1) this.#active = [loaded]
    this.#update()
  }

  /** The caller updates the host. */
  #unmerge(): void {
    this.#changes++
    const merged = this.#merged
    if (merged === undefined) return
    this.#merged = undefined
    this.#update()
    this.#host.discard(merged.merged)
  }

  #update(): void {
    this.#host.changed?.(this.#stateFor(this.#rows.at(-1)))
  }

  #stateFor(rows: readonly (Applied<P> | null)[] | undefined): CallState<P, M> {
    const merged = this.#merged?.merged
    if (this.#leaving) return this.#leaving
    if (this.#merged) return { choice: { added: this.#merged.added }, merged }
    if (!this.#enabled) return { choice: { added: [] }, merged }
    return { choice: rows ? { perRow: rows } : { added: this.#active.map(applied) }, merged }
  }

  #rowAdapters(option: string, names: readonly RowAdapter[]): (Applied<P> | null)[] {
    this.#checkLive()
    if (this.#merged)
      throw invalidState(
        `adapters ${this.mergedAdapters.join(', ')} are merged, for all rows alike; call unmergeAdapter() first`,
      )
    checkAdapterNames(option, names)
    if (names.length === 0)
      throw new FourierFTError(
        'INVALID_OPTION',
        `${option}: expected an adapter for each row; the list is empty`,
        {
          option,
          received: names,
        },
      )
    const rows = names.map((row) => {
      if (row === null) return null
      if (typeof row === 'string') return applied(this.#loaded(row))
      checkRow(option, row)
      checkScale(row.scale)
      return { adapter: this.#loaded(row.name).adapter, scale: row.scale }
    })
    const whole = rows.find((row) => row !== null && row.adapter.replaces.size > 0)?.adapter
    if (whole && rows.some((row) => row?.adapter !== whole)) {
      const [name] = [...this.#adapters.values()].filter(({ adapter }) => adapter === whole)
      throw new FourierFTError(
        'UNSUPPORTED',
        `adapter '${name?.name}' replaces whole layers (modulesToSave); it cannot share a batch`,
        { option, received: name?.name },
      )
    }
    this.#host.checkRows?.([...new Set(rows.flatMap((row) => row?.adapter ?? []))])
    return rows
  }

  /** The adapters that a merge takes: those that were named, or else the active ones. */
  #mergeable(names: readonly string[] | undefined): readonly Loaded<P>[] {
    if (this.#merged)
      throw invalidState(`adapters ${this.mergedAdapters.join(', ')} are merged; call unmergeAdapter() first`)
    if (!this.#enabled) throw invalidState('the adapters are disabled; call enableAdapters() first')
    const chosen = names === undefined ? this.#active : this.#named(names)
    if (chosen.length === 0)
      throw invalidState('no adapter is active; call setAdapter() or name the adapters to merge')
    this.#checkAddable(chosen)
    this.#checkUntrained(chosen)
    return chosen
  }

  #trainable(names: string | readonly string[]): readonly Loaded<P>[] {
    this.#checkLive()
    if (this.#merged) throw invalidState('the model is merged; call unmergeAdapter() before training')
    if (!this.#enabled) throw invalidState('the adapters are disabled; call enableAdapters() before training')
    const trained = this.#named(names)
    if (trained.length === 0)
      throw invalidState('no adapter is active; call addAdapter() or setAdapter() before training')
    this.#checkAddable(trained)
    this.#checkUntrained(trained)
    return trained
  }

  #named(names: string | readonly string[]): readonly Loaded<P>[] {
    return [...new Set(listOfNames('names', names))].map((name) => this.#loaded(name))
  }

  #loaded(name: string): Loaded<P> {
    const loaded = this.#adapters.get(name)
    if (loaded) return loaded
    throw adapterNotFound(name, this.listAdapters())
  }

  #onlyActive(): Loaded<P> {
    const [loaded, ...others] = this.#active
    if (loaded && others.length === 0) return loaded
    throw invalidState(`${this.#active.length} adapters are active; name the one that is meant`)
  }

  #checkAddable(adapters: readonly Loaded<P>[]): void {
    const replacing = new Map<string, string>()
    for (const { name, adapter } of adapters)
      for (const [key, module] of adapter.replaces) {
        const other = replacing.get(key)
        if (other !== undefined)
          throw new FourierFTError(
            'UNSUPPORTED',
            `adapters ${other} and ${name} both replace layer '${module}' (modulesToSave); choose one of them`,
            { module, option: 'names', received: [other, name] },
          )
        replacing.set(key, name)
      }
  }

  #checkUntrained(adapters: readonly Loaded<P>[]): void {
    const trained = adapters.find((each) => this.#trained.has(each))
    if (trained) throw invalidState(`adapter '${trained.name}' is being trained; await the training first`)
  }

  #checkNoMerge(): void {
    if (this.#merging) throw invalidState('the adapters are being merged or unloaded; await that first')
  }

  #checkUnchangedSince(changes: number): void {
    this.#checkLive()
    // Loads that were called before have ended: those that are under way were called since.
    if (this.#changes !== changes || (this.#merging && this.#loads.size > 0))
      throw invalidState('the adapters were changed while they were being merged; merge them again')
  }

  #checkNewAdapterName(name: string): void {
    this.#checkLive()
    checkNewAdapterName(name, this.#adapters)
  }

  /** For verbs; calls go on while the model is given up. */
  #checkLive(): void {
    this.#checkNotEnded()
    this.#checkNotLeaving()
  }

  #checkNotLeaving(): void {
    if (this.#leaving)
      throw invalidState('the model is being given up (mergeAndUnload, detach); await that first')
  }

  #checkNotEnded(): void {
    if (this.#ended !== undefined) throw invalidState(this.#ended)
    this.#host.checkLive?.()
  }

  /** Runs `work` after the verbs that were called before. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#lastTurn.then(work)
    this.#lastTurn = result.catch(() => undefined)
    return result
  }
}

/** Rejects with the signal's reason as soon as it is aborted. */
function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason)
    if (signal.aborted) abort()
    signal.addEventListener('abort', abort, { once: true })
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}

function applied<P>({ adapter, scale }: Loaded<P>): Applied<P> {
  return { adapter, scale }
}

function checkScale(scale: unknown): void {
  if (typeof scale === 'number' && Number.isFinite(scale)) return
  throw new FourierFTError('INVALID_OPTION', `scale: expected a finite number; received ${String(scale)}`, {
    option: 'scale',
    expected: 'a finite number',
    received: scale,
  })
}

function checkRow(option: string, row: unknown): void {
  if (typeof row === 'object' && row !== null && 'name' in row && typeof row.name === 'string') return
  throw new FourierFTError(
    'INVALID_OPTION',
    `${option}: expected for each row an adapter's name, { name, scale }, or null for the base model; received ${typeof row}`,
    { option, received: row },
  )
}
