/**
 * The adapters of one model. This class implements PEFT's methods, their states and their order for every runtime. Each package extends it with
 * methods that call and close a model, and implements the interface `AdapterHost`.
 *
 * Methods that return no promise take effect at once. Methods that return a promise run one after the other in a queue. A call uses the adapters
 * that were active when it started (`callState`); later methods do not affect it. A failed method changes nothing.
 */
import { Adapter } from '../adapter/adapter.js'
import { checkAdapterNames, checkNewAdapterName, listOfNames } from '../adapter/adapter-names.js'
import { rejectTrainedBiases } from '../adapter/trained-biases.js'
import { adapterNotFound, FourierFTError, invalidState } from '../errors.js'
import { type AdapterSource, type LoadAdapterOptions, loadAdapter } from '../files/load-adapter.js'
import { savePretrained } from '../files/save-pretrained.js'
import type { WriteOptions } from '../files/write-adapter.js'
import { unlessAborted } from '../unless-aborted.js'
import type { Applied, RowAdapter } from './choice.js'
import type { AdapterHost, CallState, Ending, MatchedAdapter } from './host.js'

interface Loaded<P> {
  readonly name: string
  adapter: P
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
  /** Loads that have started but not ended. */
  readonly #loads = new Set<object>()
  readonly #trained = new Set<Loaded<P>>()
  #active: readonly Loaded<P>[] = []
  #enabled = true
  #merged: Merged<P, M> | undefined
  /** The rows of each running `withAdapterPerRow`, the innermost last. */
  readonly #rows: (readonly (Applied<P> | null)[])[] = []
  /** True from the call of a merge or an unload to its end. */
  #isMerging = false
  /** The state for calls that start while the model is being unloaded. */
  #unloadState: CallState<P, M> | undefined
  /** The reason why no method can be called any more; undefined while methods can be called. */
  #ending: Ending | undefined
  /** Counts changes, so that a running merge notices them. */
  #changes = 0
  /** Settles when the last method in the queue has ended. */
  #queueEnd: Promise<unknown> = Promise.resolve()
  /** When the set ends, aborts the loads that still wait for files. */
  readonly #loadAborter = new AbortController()

  constructor(host: AdapterHost<P, M>) {
    this.#host = host
  }

  /** The names of the active adapters. They stay active while the adapters are disabled. */
  get activeAdapters(): readonly string[] {
    return this.#active.map(({ name }) => name)
  }

  /** The names of the adapters that are merged into the weights. */
  get mergedAdapters(): readonly string[] {
    return this.#merged?.names ?? []
  }

  /** False between `disableAdapters` and `enableAdapters`. */
  get enabled(): boolean {
    return this.#enabled
  }

  /** The names of all adapters, in the order in which they were added. */
  listAdapters(): string[] {
    return [...this.#adapters.keys()]
  }

  /**
   * Adds an adapter: an `Adapter`, or a directory, a repository of the hub, a URL, files or bytes to load it from. The first adapter
   * becomes active. If the model must be rebuilt for it, calls continue during the rebuild.
   *
   * @param options `name` (default `default`), and how to read the files
   * @throws {FourierFTError} `ADAPTER_EXISTS`, `MODULE_NOT_FOUND`, `SHAPE_MISMATCH`, `UNSUPPORTED`, `INVALID_STATE` after the model's end,
   *   and the errors of `loadAdapter` of `@fourierft/core`; an error changes nothing
   */
  async loadAdapter(
    source: AdapterSource | Adapter,
    { name = 'default', ...options }: LoadAdapterOptions & { readonly name?: string } = {},
  ): Promise<void> {
    await this.include(name, () => (Adapter.isInstance(source) ? source : loadAdapter(source, options)))
  }

  /**
   * Activates one adapter, or several, whose ΔW are added up. A repeated name counts once. Calls that have started keep their adapters. A
   * merged model is unmerged first, as in PEFT.
   *
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`, `INVALID_OPTION` if `names` is not a name or a list of names; `UNSUPPORTED` if two of
   *   the adapters replace the same layer (`modulesToSave`); an error changes nothing
   */
  setAdapter(names: string | readonly string[]): void {
    this.#checkLive()
    const active = this.#findAll(names)
    this.#checkAddable(active)
    this.#unmerge()
    this.#active = active
    this.#update()
  }

  /** Disables all adapters: every call uses the base model, even a call with an adapter for each row. A merged model is unmerged. */
  disableAdapters(): void {
    this.#checkLive()
    this.#unmerge()
    this.#enabled = false
    this.#update()
  }

  /** Enables the active adapters again. */
  enableAdapters(): void {
    this.#checkLive()
    this.#enabled = true
    this.#update()
  }

  /**
   * Sets the scale of an adapter from the next call on, as PEFT's `set_scale` for LoRA. Merged adapters keep their scale until they are
   * unmerged.
   *
   * @param scale factor on ΔW: 1 is ΔW as the file gives it, 0 removes it. It does not affect replaced layers (`modulesToSave`)
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`, `INVALID_OPTION` if `scale` is not a finite number
   */
  setScale(name: string, scale: number): void {
    this.#checkLive()
    const loaded = this.#find(name)
    checkScale(scale)
    loaded.scale = scale
    this.#update()
  }

  /** Returns the scale of an adapter. @throws {FourierFTError} `ADAPTER_NOT_FOUND`, `INVALID_STATE` after the model's end */
  scaleOf(name: string): number {
    this.#checkNotEnded()
    return this.#find(name).scale
  }

  /**
   * Deletes an adapter. Other active adapters stay active. Calls that have started with the adapter keep it. A merged model is unmerged.
   *
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`, `INVALID_STATE` if the adapter is being trained, or has rows in a running
   *   `withAdapterPerRow`
   */
  deleteAdapter(name: string): void {
    this.#checkLive()
    const loaded = this.#find(name)
    this.#checkUntrained([loaded])
    if (this.#rows.flat().some((row) => row?.adapter === loaded.adapter))
      throw invalidState(
        `adapter '${name}' has rows in withAdapterPerRow`,
        'delete it when the function has returned',
      )
    this.#unmerge()
    this.#adapters.delete(name)
    this.#active = this.#active.filter((active) => active !== loaded)
    this.#update()
    this.#host.forget?.(loaded.adapter)
  }

  /**
   * Merges the active adapters (or the named ones) into the weights: ΔW at the current scale, and replaced layers. The model is then as fast
   * as the base model. `unmergeAdapter` undoes the merge.
   *
   * @throws {FourierFTError} `INVALID_STATE` if adapters are merged already or being merged, if they are disabled, if none is active, if one is
   *   being trained, or if another method changes the adapters before the merge ends; `ADAPTER_NOT_FOUND`, `NOT_FINITE`, `UNSUPPORTED`; an
   *   error changes nothing
   */
  async mergeAdapter(names?: string | readonly string[]): Promise<void> {
    this.#checkLive()
    this.#checkNoMerge()
    const wanted = names === undefined ? undefined : listOfNames('names', names)
    const changes = this.#changes
    const scales = new Map(Array.from(this.#adapters.values(), (loaded) => [loaded, loaded.scale]))
    this.#isMerging = true
    try {
      await this.#enqueue(async () => {
        this.#checkUnchangedSince(changes)
        const chosen = this.#adaptersToMerge(wanted)
        // An adapter that was still being loaded at the time of the call had the scale 1.
        const added = chosen.map((loaded) => ({ adapter: loaded.adapter, scale: scales.get(loaded) ?? 1 }))
        const merged = await this.#host.merge(added).catch((error) => {
          // A change of the adapters during the merge may have caused this error. Report the change instead.
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
      this.#isMerging = false
    }
  }

  /** Restores the weights of the base model; calls then apply the active adapters as branches. Does nothing if nothing is merged. */
  unmergeAdapter(): void {
    this.#checkLive()
    this.#unmerge()
    this.#update()
  }

  /**
   * Applies one adapter to each row of the batch, in every call that starts before the function's first `await`.
   *
   * @param names one adapter for each row, or for each of equal parts of the batch
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`, `INVALID_OPTION`, `INVALID_STATE` while merged, `UNSUPPORTED` if the model cannot
   *   apply these adapters to single rows
   */
  withAdapterPerRow<T>(names: readonly RowAdapter[], run: () => T): T {
    this.#rows.push(this.#rowAdapters('names', names))
    try {
      this.#update()
      return run()
    } finally {
      this.#rows.pop()
      if (this.#ending === undefined) this.#update()
    }
  }

  /**
   * Returns the adapter with its current coefficients, to save it, send it, or load it elsewhere.
   *
   * @param name default: the active adapter
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`, `INVALID_STATE` without a name unless exactly one adapter is active
   */
  async getAdapter(name?: string): Promise<Adapter> {
    this.#checkLive()
    return this.#host.adapterOf((name === undefined ? this.#onlyActiveAdapter() : this.#find(name)).adapter)
  }

  /**
   * Writes the two files of an adapter with its current coefficients; during training, those after the last complete step. See `savePretrained`
   * of `@fourierft/core`.
   *
   * @param options `name` of the adapter (default: the active adapter), and the form of the files
   */
  async savePretrained(
    directory: string | URL,
    { name, ...form }: WriteOptions & { readonly name?: string } = {},
  ): Promise<void> {
    await savePretrained(await this.getAdapter(name), directory, form)
  }

  /**
   * Returns the state for a call that starts now. Later methods do not change it.
   *
   * @param rows an adapter for each row, instead of the active adapters
   * @throws {FourierFTError} `INVALID_STATE` after the model's end; for `rows`, the errors of `withAdapterPerRow`
   */
  protected callState(rows?: readonly RowAdapter[]): CallState<P, M> {
    this.#checkNotEnded()
    return this.#stateFor(rows === undefined ? this.#rows.at(-1) : this.#rowAdapters('adapters', rows))
  }

  /**
   * Adds a new adapter. `make` starts at once; the rest runs in the queue.
   *
   * @throws {FourierFTError} the errors of `make` and the host, `ADAPTER_EXISTS`, `INVALID_STATE`; an error changes nothing
   */
  protected async include(name: string, make: () => Adapter | Promise<Adapter>): Promise<void> {
    this.#checkNewAdapterName(name)
    const load = {}
    this.#loads.add(load)
    const loading = Promise.resolve().then(make)
    // A failed load does not count as a change, so a running merge continues.
    loading.catch(() => this.#loads.delete(load))
    await this.#enqueue(async () => {
      try {
        const adapter = await unlessAborted(loading, this.#loadAborter.signal)
        this.#checkNewAdapterName(name)
        rejectTrainedBiases(name, adapter.config)
        const matched = await this.#host.match(name, adapter)
        try {
          if (!this.#host.serves(matched)) await this.#host.rebuild([...this.matchedAdapters(), matched])
          // The name may have been taken, or the set ended, during the rebuild.
          this.#checkNewAdapterName(name)
        } catch (error) {
          this.#host.forget?.(matched)
          throw error
        }
        this.#add(name, matched)
      } finally {
        this.#loads.delete(load)
      }
    })
  }

  /** Adds a new adapter without the queue, for a host that matches adapters synchronously and never rebuilds. */
  protected includeNow(name: string, make: () => P): void {
    this.#checkNewAdapterName(name)
    const matched = make()
    this.#changes++
    this.#add(name, matched)
  }

  /** Returns the adapter of that name. @throws {FourierFTError} `ADAPTER_NOT_FOUND`, `INVALID_STATE` after the model's end */
  protected matchedAdapter(name: string): P {
    return this.chosenAdapter(name).adapter
  }

  /**
   * Returns an adapter and its name.
   *
   * @param name default: the active adapter
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`, `INVALID_STATE` after the model's end, and without a name unless exactly one adapter is active
   */
  protected chosenAdapter(name: string | undefined): { readonly name: string; readonly adapter: P } {
    this.#checkNotEnded()
    return name === undefined ? this.#onlyActiveAdapter() : this.#find(name)
  }

  /**
   * Changes an adapter's coefficients at once.
   *
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`, `INVALID_STATE` while merged, and the errors of `work`
   */
  protected edit(name: string, work: (adapter: P) => void): void {
    this.#checkLive()
    const { adapter } = this.#find(name)
    if (this.#merged) throw invalidState('the model is merged', 'call unmergeAdapter() first')
    work(adapter)
    // A running merge must not use the old coefficients.
    this.#changes++
  }

  /**
   * Replaces an adapter by itself with other coefficients. Calls that have started keep the old ones, and so do merged weights.
   *
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`, `INVALID_STATE` after the model's end
   */
  protected replace(name: string, adapter: P): void {
    this.#checkLive()
    this.#find(name).adapter = adapter
    // A running merge must not use the old coefficients.
    this.#changes++
    this.#update()
  }

  /**
   * Replaces an adapter by another one, in the queue. Its name, its scale and whether it is active are kept. Calls that have started keep the old one.
   *
   * @param make receives the adapter as it is when its turn comes
   * @throws {FourierFTError} the errors of `make` and the host, `ADAPTER_NOT_FOUND`; `INVALID_STATE` if the adapter is merged, or if it was deleted
   *   or changed meanwhile; `UNSUPPORTED` if another active adapter replaces the same layer; an error changes nothing
   */
  protected async exchange(name: string, make: (old: Adapter) => Adapter | Promise<Adapter>): Promise<void> {
    this.#checkLive()
    this.#find(name)
    await this.#enqueue(async () => {
      this.#checkLive()
      const loaded = this.#find(name)
      const old = loaded.adapter
      const adapter = await make(await this.#host.adapterOf(old))
      rejectTrainedBiases(name, adapter.config)
      const matched = await this.#host.match(name, adapter)
      try {
        // Until the end of the rebuild, calls start with the old adapter.
        if (!this.#host.serves(matched)) await this.#host.rebuild([...this.matchedAdapters(), matched])
        this.#checkLive()
        if (this.#find(name) !== loaded || loaded.adapter !== old)
          throw invalidState(`adapter '${name}' was changed while it was being replaced`, 'replace it again')
        if (this.#merged?.added.some((applied) => applied.adapter === old))
          throw invalidState(`adapter '${name}' is merged`, 'call unmergeAdapter() first')
        this.#checkAddable(
          this.#active.map((active) => (active === loaded ? { ...loaded, adapter: matched } : active)),
        )
      } catch (error) {
        this.#host.forget?.(matched)
        throw error
      }
      this.replace(name, matched)
      this.#host.forget?.(old)
    })
  }

  protected matchedAdapters(): P[] {
    return Array.from(this.#adapters.values(), ({ adapter }) => adapter)
  }

  /**
   * Trains the active adapters (or the named ones). Until the training ends, they cannot be deleted, merged or trained a second time. All other
   * methods work, and do not affect the training.
   *
   * @param work receives the adapters to train
   * @throws {FourierFTError} `INVALID_STATE` if the model is merged, if the adapters are disabled, if none is active, or if one is
   *   being trained already; `ADAPTER_NOT_FOUND`
   */
  protected async train<T>(
    work: (added: readonly Applied<P>[]) => Promise<T>,
    names: string | readonly string[] = this.activeAdapters,
  ): Promise<T> {
    const trained = this.#adaptersToTrain(names)
    // A running merge must not use half-trained coefficients.
    this.#changes++
    for (const loaded of trained) this.#trained.add(loaded)
    try {
      return await work(trained.map(toApplied))
    } finally {
      for (const loaded of trained) this.#trained.delete(loaded)
    }
  }

  /**
   * Unloads the adapters, in the queue: `keep: 'merged'` keeps the model with its adapters merged, `keep: 'base'` keeps the base model.
   * Afterwards every method throws. Calls that start while `work` runs already use the model that is kept.
   *
   * @param work receives the adapters that are kept, and the result of `merge` if they are merged already
   * @param ended the reason in the errors of later methods
   */
  protected async leave<T>(
    { keep, ended }: { readonly keep: 'base' | 'merged'; readonly ended: Ending },
    work: (state: { readonly added: readonly Applied<P>[]; readonly merged: M | undefined }) => Promise<T>,
  ): Promise<T> {
    this.#checkLive()
    this.#checkNoMerge()
    const changes = this.#changes
    this.#isMerging = true
    try {
      return await this.#enqueue(async () => {
        // Changes since the call do not affect the base model.
        if (keep === 'base') this.#checkLive()
        else this.#checkUnchangedSince(changes)
        const added =
          keep === 'base' ? [] : (this.#merged?.added ?? this.#adaptersToMerge(undefined).map(toApplied))
        this.#checkUntrained([...this.#adapters.values()])
        const merged = this.#merged?.merged
        this.#unloadState = { choice: { added }, merged: keep === 'base' ? undefined : merged }
        try {
          const result = await work({ added, merged })
          this.#finish(ended)
          return result
        } finally {
          this.#unloadState = undefined
        }
      })
    } finally {
      this.#isMerging = false
    }
  }

  /**
   * Ends the set at once: every later method throws. Also works if the model was closed without the set.
   *
   * @throws {FourierFTError} `INVALID_STATE` if the set has ended, and while an adapter is being trained
   * @returns the resources that the host must free
   */
  protected finish(ended: Ending): { readonly adapters: readonly P[]; readonly merged: M | undefined } {
    if (this.#ending !== undefined) throw endError(this.#ending)
    this.#checkNotUnloading()
    this.#checkUntrained([...this.#adapters.values()])
    return this.#finish(ended)
  }

  #finish(ended: Ending): { readonly adapters: readonly P[]; readonly merged: M | undefined } {
    const resources = { adapters: this.matchedAdapters(), merged: this.#merged?.merged }
    this.#ending = ended
    this.#loadAborter.abort(endError(ended))
    this.#adapters.clear()
    this.#active = []
    this.#merged = undefined
    return resources
  }

  /** Resolves when all methods that were called before have ended. */
  protected async idle(): Promise<void> {
    await this.#queueEnd
  }

  #add(name: string, adapter: P): void {
    const loaded = { name, adapter, scale: 1 }
    this.#adapters.set(name, loaded)
    if (this.#adapters.size === 1) this.#active = [loaded]
    this.#update()
  }

  /** The caller must call `#update` afterwards, because this method does so only if something was merged. */
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
    if (this.#unloadState) return this.#unloadState
    if (this.#merged) return { choice: { added: this.#merged.added }, merged }
    if (!this.#enabled) return { choice: { added: [] }, merged }
    return { choice: rows ? { perRow: rows } : { added: this.#active.map(toApplied) }, merged }
  }

  #rowAdapters(option: string, names: readonly RowAdapter[]): (Applied<P> | null)[] {
    this.#checkLive()
    if (this.#merged)
      throw invalidState(
        `adapters ${this.mergedAdapters.join(', ')} are merged into the weights, which all rows share`,
        'call unmergeAdapter() first',
      )
    checkAdapterNames(option, names)
    if (names.length === 0)
      throw new FourierFTError(
        'INVALID_OPTION',
        `${option}: expected an adapter for each row; received an empty list`,
        { option, received: names },
      )
    const rows = names.map((row) => {
      if (row === null) return null
      if (typeof row === 'string') return toApplied(this.#find(row))
      checkRow(option, row)
      checkScale(row.scale)
      return { adapter: this.#find(row.name).adapter, scale: row.scale }
    })
    this.#host.checkRows?.(rows)
    return rows
  }

  /** Returns the adapters to merge: the named ones, or else the active ones. */
  #adaptersToMerge(names: readonly string[] | undefined): readonly Loaded<P>[] {
    if (this.#merged)
      throw invalidState(
        `adapters ${this.mergedAdapters.join(', ')} are merged`,
        'call unmergeAdapter() first',
      )
    if (!this.#enabled) throw invalidState('the adapters are disabled', 'call enableAdapters() first')
    const chosen = names === undefined ? this.#active : this.#findAll(names)
    if (chosen.length === 0)
      throw invalidState('no adapter is active', 'call setAdapter() or name the adapters to merge')
    this.#checkAddable(chosen)
    this.#checkUntrained(chosen)
    return chosen
  }

  #adaptersToTrain(names: string | readonly string[]): readonly Loaded<P>[] {
    this.#checkLive()
    if (this.#merged) throw invalidState('the model is merged', 'call unmergeAdapter() before training')
    if (!this.#enabled)
      throw invalidState('the adapters are disabled', 'call enableAdapters() before training')
    const trained = this.#findAll(names)
    if (trained.length === 0)
      throw invalidState('no adapter is active', 'call addAdapter() or setAdapter() before training')
    this.#checkAddable(trained)
    this.#checkUntrained(trained)
    return trained
  }

  #findAll(names: string | readonly string[]): readonly Loaded<P>[] {
    return [...new Set(listOfNames('names', names))].map((name) => this.#find(name))
  }

  #find(name: string): Loaded<P> {
    const loaded = this.#adapters.get(name)
    if (loaded) return loaded
    throw adapterNotFound(name, this.listAdapters())
  }

  #onlyActiveAdapter(): Loaded<P> {
    const [loaded, ...others] = this.#active
    if (loaded && others.length === 0) return loaded
    throw this.listAdapters().length === 0
      ? invalidState('there are no adapters', 'call addAdapter() or loadAdapter() first')
      : invalidState(`${this.#active.length} adapters are active`, 'give the name of one')
  }

  #checkAddable(adapters: readonly Loaded<P>[]): void {
    const replacing = new Map<string, string>()
    for (const { name, adapter } of adapters)
      for (const [key, module] of adapter.replaces) {
        const other = replacing.get(key)
        if (other !== undefined)
          throw new FourierFTError(
            'UNSUPPORTED',
            `adapters ${other} and ${name} both replace layer '${module}' (modulesToSave)`,
            { advice: 'choose one of them', module, option: 'names', received: [other, name] },
          )
        replacing.set(key, name)
      }
  }

  #checkUntrained(adapters: readonly Loaded<P>[]): void {
    const trained = adapters.find((loaded) => this.#trained.has(loaded))
    if (trained) throw invalidState(`adapter '${trained.name}' is being trained`, 'await the training first')
  }

  #checkNoMerge(): void {
    if (this.#isMerging)
      throw invalidState('the adapters are being merged or unloaded', 'await that call first')
  }

  #checkUnchangedSince(changes: number): void {
    this.#checkLive()
    // In the queue, all earlier loads have ended. So a load that is still running was started after this merge.
    if (this.#changes !== changes || (this.#isMerging && this.#loads.size > 0))
      throw invalidState('the adapters were changed while they were being merged', 'merge them again')
  }

  #checkNewAdapterName(name: string): void {
    this.#checkLive()
    checkNewAdapterName(name, this.#adapters)
  }

  /** Checks that methods may be called. Calls of the model, in contrast, continue while it is being unloaded. */
  #checkLive(): void {
    this.#checkNotEnded()
    this.#checkNotUnloading()
  }

  #checkNotUnloading(): void {
    if (this.#unloadState)
      throw invalidState('the model is being unloaded (mergeAndUnload, detach)', 'await that call first')
  }

  #checkNotEnded(): void {
    if (this.#ending !== undefined) throw endError(this.#ending)
    this.#host.checkLive?.()
  }

  /** Runs `work` when all methods that were called before have ended. */
  #enqueue<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#queueEnd.then(work)
    this.#queueEnd = result.catch(() => undefined)
    return result
  }
}

function toApplied<P>({ adapter, scale }: Loaded<P>): Applied<P> {
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

function endError({ problem, advice }: Ending): FourierFTError {
  return invalidState(problem, advice)
}
