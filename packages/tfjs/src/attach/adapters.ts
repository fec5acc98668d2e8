/**
 * The adapters of one attached model: PEFT's verbs. Which adapter is active, whether it is merged, what is trained: all of that is
 * decided here. Layers apply what they are told to (`AdaptedLayer`); files are the business of `@fourierft/core`.
 */
import {
  Adapter,
  type AdapterSource,
  adapterNotFound,
  type CreateAdapterOptions,
  checkNames,
  checkNewName,
  createAdapter,
  createConfig,
  createLayer,
  delta,
  type FloatArray,
  type FourierFTConfig,
  FourierFTError,
  type FourierFTOptions,
  invalidState,
  isSavedWhole,
  isTaskHead,
  type LoadAdapterOptions,
  listOfNames,
  loadAdapter,
  matchModules,
  nearestNames,
  rejectTrainedBiases,
  type Shape,
  savePretrained,
  type WriteOptions,
  withTaskHeads,
} from '@fourierft/core'
import {
  add,
  reshape,
  type Tensor,
  tensor1d,
  tensor2d,
  tidy,
  transpose,
  type Variable,
} from '@tensorflow/tfjs-core'
import type { LayersModel, LayerVariable } from '@tensorflow/tfjs-layers'
import type { TfjsStrategy } from '../strategies/choose-strategy.js'
import { TableCache } from '../table-cache.js'
import { ADAPTABLE } from './adaptable-layer.js'
import { AdaptedLayer, type Branch } from './adapted-layer.js'
import { checkBaseTensors } from './base-tensors.js'
import { checkStrategy } from './check-options.js'
import type { Host, HostModule } from './host.js'
import { variableOf } from './layers-internals.js'
import { LoadedAdapter } from './loaded-adapter.js'

/** Layers that some attached model holds: a layer takes one attachment at a time. */
const attachedLayers = new WeakSet<object>()

/** The adapters of one model that `attach` has made ready: PEFT's verbs, in camel case. */
export class Adapters<Model = LayersModel> {
  readonly model: Model
  readonly #modules: readonly HostModule[]
  readonly #layers = new Map<string, AdaptedLayer>()
  readonly #adapters = new Map<string, LoadedAdapter>()
  readonly #settings: { strategy: TfjsStrategy | 'auto'; tables: TableCache; rows: Int32Array | undefined }
  readonly #restore: () => void
  #active: readonly string[] = []
  #enabled = true
  #merged: readonly string[] = []
  #detached = false

  /** `attach` makes these. */
  constructor(host: Host<Model>, { strategy = 'auto' }: { readonly strategy?: TfjsStrategy | 'auto' } = {}) {
    this.model = host.model
    this.#modules = host.modules
    this.#settings = { strategy, tables: new TableCache(), rows: undefined }
    const taken = host.modules.find(({ kind, owner }) => kind && attachedLayers.has(owner))
    if (taken) {
      throw new FourierFTError(
        'INVALID_STATE',
        `layer '${taken.name}' is attached already; use the object that attach() gave, or detach() it first`,
        { module: taken.name },
      )
    }
    this.#restore = host.prepare(() => this.#weightsToTrain())
    for (const module of host.modules) {
      const { kind, name, owner } = module
      if (!kind) continue
      attachedLayers.add(owner)
      this.#layers.set(name, new AdaptedLayer(module, kind, this.#settings))
    }
  }

  /** Names and shapes `[out, in]` of the layers that can have adapters. */
  get shapes(): Readonly<Record<string, Shape>> {
    return Object.fromEntries(Array.from(this.#layers, ([name, { shape }]) => [name, shape]))
  }

  /** Names of the active adapters; they stay active while they are disabled. */
  get activeAdapters(): readonly string[] {
    return this.#active
  }

  /** Names of the adapters that are in the kernels now. */
  get mergedAdapters(): readonly string[] {
    return this.#merged
  }

  /** False between `disableAdapters` and `enableAdapters`. */
  get enabled(): boolean {
    return this.#enabled
  }

  /** How active adapters are applied. */
  get strategy(): TfjsStrategy | 'auto' {
    return this.#settings.strategy
  }

  /** @throws {FourierFTError} `INVALID_OPTION` */
  set strategy(strategy: TfjsStrategy | 'auto') {
    checkStrategy(strategy)
    this.#settings.strategy = strategy
  }

  /** The coefficients of one layer of an adapter, `[n]`: the variable itself, which the adapter owns. */
  coefficients(name: string, module: string): Variable {
    this.#checkAttached()
    return variableOf(this.#branch(name, module).coefficients)
  }

  /** What a training loop of one's own trains: the weights of the active adapters. Valid until an adapter is set or deleted. */
  get trainableVariables(): Variable[] {
    return this.#activeWeights().map(variableOf)
  }

  /** The names of all adapters, in the order in which they came. */
  listAdapters(): string[] {
    return [...this.#adapters.keys()]
  }

  /**
   * A new adapter, to be trained; active at once if it is the first. Coefficients start as PEFT's do: standard normal, or zeros with
   * `initWeights: true`.
   *
   * @param config which layers (`targetModules`), how many coefficients, scaling, seed; PEFT's defaults for what is not given
   * @throws {FourierFTError} `ADAPTER_EXISTS`, `MODULE_NOT_FOUND`, `UNSUPPORTED`, `INVALID_OPTION`, `INVALID_ENTRY_COUNT`,
   *   `INVALID_PATTERN`; nothing is changed then
   */
  addAdapter(
    name: string,
    config: FourierFTOptions | FourierFTConfig,
    options: CreateAdapterOptions = {},
  ): void {
    this.#checkNewName(name)
    const complete =
      'extra' in config && config.extra
        ? withTaskHeads(config as FourierFTConfig)
        : createConfig(config as FourierFTOptions)
    rejectTrainedBiases(name, complete)
    const shapes = Object.fromEntries(
      this.#matched(complete).map((module) => [module, this.#layer(module).shape]),
    )
    this.#include(name, createAdapter(complete, shapes, options))
  }

  /**
   * An adapter from a directory, the hub, a URL, files or memory, or one that is loaded already; active at once if it is the first.
   *
   * @throws {FourierFTError} `ADAPTER_EXISTS`, `MODULE_NOT_FOUND`, `SHAPE_MISMATCH`, `UNSUPPORTED`, and what `loadAdapter` of
   *   `@fourierft/core` throws; nothing is changed then
   */
  async loadAdapter(
    source: AdapterSource | Adapter,
    { name = 'default', ...options }: LoadAdapterOptions & { readonly name?: string } = {},
  ): Promise<void> {
    this.#checkNewName(name)
    const adapter = source instanceof Adapter ? source : await loadAdapter(source, options)
    // While adapters are merged the kernels are not those of the base model.
    if (this.#merged.length === 0) await checkBaseTensors(adapter, this.#layers)
    // The name may have been taken, or the model detached, while the files were on their way.
    this.#checkNewName(name)
    this.#include(name, adapter)
  }

  /**
   * The active adapter, or several: what they change is added up. A merged model is unmerged first, as PEFT does.
   *
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`, `INVALID_OPTION` for what is no list of names; `UNSUPPORTED` where two of them replace
   *   the same layer (`modulesToSave`); nothing is changed then
   */
  setAdapter(names: string | readonly string[]): void {
    this.#checkAttached()
    const active = [...new Set(listOfNames('names', names))]
    for (const name of active) this.#adapter(name)
    for (const module of this.#layers.keys()) {
      const replacing = active.filter((name) => this.#adapter(name).wholes.has(module))
      if (replacing.length > 1) {
        throw new FourierFTError(
          'UNSUPPORTED',
          `adapters ${replacing.join(' and ')} both replace layer '${module}' (modulesToSave); set one of them`,
          { module, option: 'names', received: replacing },
        )
      }
    }
    this.unmergeAdapter()
    this.#active = active
    this.#update()
  }

  /** No adapter is applied: the base model's own bits. A merged model is unmerged. */
  disableAdapters(): void {
    this.#checkAttached()
    this.unmergeAdapter()
    this.#enabled = false
    this.#update()
  }

  /** The active adapters are applied again. */
  enableAdapters(): void {
    this.#checkAttached()
    this.#enabled = true
    this.#update()
  }

  /** Forgets an adapter and frees what it held. If it was active, the others that are active stay so. */
  deleteAdapter(name: string): void {
    this.#checkAttached()
    const adapter = this.#adapter(name)
    this.unmergeAdapter()
    this.#adapters.delete(name)
    this.#active = this.#active.filter((active) => active !== name)
    this.#update()
    adapter.dispose()
    const entries = [...this.#adapters.values()].flatMap(({ branches }) =>
      Array.from(branches.values(), ({ spec }) => spec.entries),
    )
    this.#settings.tables.retain(entries)
  }

  /**
   * Adds ΔW of the active adapters (or of the named ones) to the kernels. The original kernels are kept, for `unmergeAdapter`. Whole
   * layers (`modulesToSave`) stay as they are set.
   *
   * @throws {FourierFTError} `INVALID_STATE` (merged already, disabled, no adapter), `ADAPTER_NOT_FOUND`, `NOT_FINITE`
   */
  async mergeAdapter(names: string | readonly string[] = this.#active): Promise<void> {
    this.#checkAttached()
    const chosen = [...listOfNames('names', names)]
    if (this.#merged.length > 0)
      throw invalidState(`adapters ${this.#merged.join(', ')} are merged; call unmergeAdapter() first`)
    if (!this.#enabled) throw invalidState('the adapters are disabled; call enableAdapters() first')
    if (chosen.length === 0)
      throw invalidState('no adapter is active; call setAdapter() or name the adapters to merge')
    const adapters = await Promise.all(chosen.map((name) => this.#adapter(name).snapshot()))
    this.#checkAttached()
    // All new kernels before the first change, so that a failure changes nothing.
    const kernels: [AdaptedLayer, Tensor][] = []
    try {
      for (const layer of this.#layers.values()) {
        const own = adapters.filter(({ modules }) => modules.has(layer.module))
        if (own.length === 0) continue
        kernels.push([
          layer,
          tidy(() =>
            own.reduce((kernel, adapter) => add(kernel, kernelOf(adapter, layer)), layer.kind.kernel.read()),
          ),
        ])
      }
    } catch (error) {
      for (const [, kernel] of kernels) kernel.dispose()
      throw error
    }
    for (const [layer, kernel] of kernels) layer.merge(kernel)
    this.#merged = chosen
  }

  /** Gives the kernels their original bits back. Without effect where nothing is merged. */
  unmergeAdapter(): void {
    this.#checkAttached()
    for (const layer of this.#layers.values()) layer.unmerge()
    this.#merged = []
  }

  /**
   * The model with the active adapters inside of its own weights, and without a trace of this package. All adapters are freed.
   *
   * @throws {FourierFTError} as `mergeAdapter`
   */
  async mergeAndUnload(): Promise<Model> {
    if (this.#merged.length === 0) await this.mergeAdapter()
    for (const [module, { kind }] of this.#layers) {
      const whole = this.#active.map((name) => this.#adapter(name).wholes.get(module)).find((found) => found)
      if (!whole) continue
      variableOf(kind.kernel).assign(whole.kernel.read())
      if (kind.bias && whole.bias) variableOf(kind.bias).assign(whole.bias.read())
    }
    this.#leave({ keepMerged: true })
    return this.model
  }

  /** The adapter with its numbers as they are now: to be saved, sent, or loaded elsewhere. */
  async getAdapter(name = this.#onlyActive()): Promise<Adapter> {
    this.#checkAttached()
    return this.#adapter(name).snapshot()
  }

  /**
   * Writes the two files of an adapter; see `savePretrained` of `@fourierft/core`.
   *
   * @param options `name` of the adapter (default: the active one), and the form of the files
   */
  async savePretrained(
    directory: string | URL,
    options: WriteOptions & { readonly name?: string } = {},
  ): Promise<void> {
    const { name, ...form } = options
    await savePretrained(await this.getAdapter(name), directory, form)
  }

  /**
   * New coefficients for some layers of an adapter, from a training loop of one's own.
   *
   * @param byModule `[n]` for each module
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`, `MODULE_NOT_FOUND`, `SHAPE_MISMATCH`, `NOT_FINITE`, `INVALID_STATE` while merged;
   *   nothing is changed then
   */
  setCoefficients(name: string, byModule: Readonly<Record<string, FloatArray>>): void {
    this.#checkAttached()
    const { branches } = this.#adapter(name)
    if (this.#merged.length > 0) throw invalidState('the model is merged; call unmergeAdapter() first')
    const changes = Object.entries(byModule).map(([module, coefficients]) => {
      const branch = branches.get(module)
      if (!branch)
        throw moduleNotFound(`adapter '${name}' has no module '${module}'`, module, branches.keys())
      const { spec } = branch
      return { branch, layer: createLayer({ name: module, ...spec, coefficients }) }
    })
    for (const { branch, layer } of changes) {
      const values = tensor1d(Float32Array.from(layer.coefficients))
      variableOf(branch.coefficients).assign(values)
      values.dispose()
    }
  }

  /**
   * Runs `model.predict` or `model.apply` with one adapter for each row of the batch.
   *
   * @param names an adapter for each row, null for the base model
   * @param run synchronous; has to use the model with exactly that many rows at once: `model.predict(x, { batchSize: names.length })`
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`, `INVALID_STATE` while merged, `INVALID_OPTION` for another number of rows,
   *   `UNSUPPORTED` for adapters with `modulesToSave`, or of convolutions other than 1×1 with strides of 1
   */
  withAdapterPerRow<T>(names: readonly (string | null)[], run: () => T): T {
    this.#checkAttached()
    if (this.#merged.length > 0) throw invalidState('the model is merged; call unmergeAdapter() first')
    checkNames('names', names)
    const used = [...new Set(names.filter((name) => name !== null))]
    for (const name of used) {
      const { branches, wholes } = this.#adapter(name)
      const shared = [...branches.keys()].find((module) => !this.#layer(module).kind.takesRows)
      if (shared !== undefined) {
        throw new FourierFTError(
          'UNSUPPORTED',
          `adapter '${name}' changes layer '${shared}', a convolution with a kernel or strides above 1, which has one kernel for the ` +
            'whole batch; predict the rows of each adapter in a batch of their own',
          { module: shared, option: 'names', received: name },
        )
      }
      if (wholes.size > 0) {
        throw new FourierFTError(
          'UNSUPPORTED',
          `adapter '${name}' replaces whole layers (modulesToSave); it cannot share a batch`,
          {
            option: 'names',
            received: name,
          },
        )
      }
    }
    this.#settings.rows = Int32Array.from(names, (name) => (name === null ? -1 : used.indexOf(name)))
    this.#apply(used)
    try {
      return run()
    } finally {
      this.#settings.rows = undefined
      this.#update()
    }
  }

  /** Leaves the model as it was found: its weights' bits, its methods, its `trainable` flags. All adapters are freed. */
  detach(): void {
    this.#checkAttached()
    this.#leave({ keepMerged: false })
  }

  #leave(options: { keepMerged: boolean }): void {
    for (const layer of this.#layers.values()) layer.detach(options)
    for (const { owner } of this.#modules) attachedLayers.delete(owner)
    for (const adapter of this.#adapters.values()) adapter.dispose()
    this.#adapters.clear()
    this.#settings.tables.dispose()
    this.#restore()
    this.#detached = true
  }

  #include(name: string, adapter: Adapter): void {
    const { config } = adapter
    rejectTrainedBiases(name, config)
    const known = Object.fromEntries(
      [...this.#layers]
        .filter(([module]) => adapter.modules.has(module))
        .map(([module, { shape }]) => [module, shape]),
    )
    const loaded = new LoadedAdapter(adapter.withShapes(known), this.#layers, this.#wholeModules(config))
    this.#adapters.set(name, loaded)
    if (this.#adapters.size === 1) this.#active = [name]
    this.#update()
  }

  /** The layers that a configuration adapts. */
  #matched(config: FourierFTConfig): string[] {
    const whole = new Set(this.#wholeModules(config))
    const names = this.#modules
      .filter(({ hasWeights, isBuilt }) => hasWeights || !isBuilt)
      .map(({ name }) => name)
    const linear = [...this.#layers.values()].filter(({ kind }) => kind.isLinear).map(({ module }) => module)
    const matched = matchModules(config, names, { linear }).filter((module) => !whole.has(module))
    for (const module of matched) this.#layer(module)
    return matched
  }

  /**
   * The layers that a configuration trains and saves whole: ends of their names, or of those of models that they are in, as in PEFT.
   * Names that the model does not have pass if another one is found, and so do those that PEFT adds for a task, as `classifier`.
   */
  #wholeModules(config: FourierFTConfig): string[] {
    const endings = config.modulesToSave ?? []
    const modules = this.#modules
      .filter(({ hasWeights }) => hasWeights)
      .map(({ name }) => name)
      .filter((name) => isSavedWhole(config, name))
    const wanted = endings.find((ending) => !isTaskHead(config, ending))
    if (wanted !== undefined && modules.length === 0) {
      throw moduleNotFound(
        `modulesToSave: the model has no layer ${endings.join(', ')}`,
        wanted,
        this.#layers.keys(),
      )
    }
    for (const module of modules) {
      if (!this.#layer(module).kind.isLinear)
        throw this.#unsupported(module, 'be saved whole', ['Dense', 'EinsumDense'])
    }
    return modules
  }

  #layer(module: string): AdaptedLayer {
    const layer = this.#layers.get(module)
    if (layer) return layer
    if (this.#modules.some(({ name }) => name === module)) {
      throw this.#unsupported(module, 'have adapters', ADAPTABLE)
    }
    throw moduleNotFound(`the model has no layer '${module}'`, module, this.#layers.keys())
  }

  #unsupported(module: string, what: string, expected: readonly string[]): FourierFTError {
    const found = this.#modules.find(({ name }) => name === module)
    const received = found?.typeName
    if (found?.isBuilt === false) {
      return new FourierFTError(
        'UNSUPPORTED',
        `layer '${module}' is a ${received} that has no weights yet, for the layer that holds it builds it when it first runs; ` +
          'run the model once (model.predict), then attach it',
        { module, received },
      )
    }
    return new FourierFTError(
      'UNSUPPORTED',
      `layer '${module}' is a ${received}; only these can ${what}: ${expected.join(', ')}`,
      { module, expected, received },
    )
  }

  #adapter(name: string): LoadedAdapter {
    const adapter = this.#adapters.get(name)
    if (adapter) return adapter
    throw adapterNotFound(name, this.listAdapters())
  }

  #branch(name: string, module: string): Branch {
    const { branches } = this.#adapter(name)
    const branch = branches.get(module)
    if (branch) return branch
    throw moduleNotFound(`adapter '${name}' has no module '${module}'`, module, branches.keys())
  }

  #onlyActive(): string {
    const [name] = this.#active
    if (name !== undefined && this.#active.length === 1) return name
    throw invalidState(`${this.#active.length} adapters are active; name the one that is meant`)
  }

  #checkNewName(name: string): void {
    this.#checkAttached()
    checkNewName(name, this.#adapters)
  }

  #checkAttached(): void {
    if (this.#detached) throw invalidState('the model was detached; call attach() again')
  }

  #update(): void {
    this.#apply(this.#enabled ? this.#active : [])
    const trained = new Set(this.#enabled ? this.#activeWeights() : [])
    for (const { weights } of this.#adapters.values()) {
      for (const weight of weights) weight.trainable = trained.has(weight)
    }
  }

  #apply(names: readonly string[]): void {
    const adapters = names.map((name) => this.#adapter(name))
    for (const layer of this.#layers.values())
      layer.setActive(adapters.map((adapter) => adapter.part(layer.module)))
  }

  #activeWeights(): LayerVariable[] {
    return this.#active.flatMap((name) => this.#adapter(name).weights)
  }

  #weightsToTrain(): LayerVariable[] {
    if (this.#merged.length > 0)
      throw invalidState('the model is merged; call unmergeAdapter() before training')
    if (!this.#enabled) throw invalidState('the adapters are disabled; call enableAdapters() before training')
    if (this.#active.length === 0)
      throw invalidState('no adapter is active; call addAdapter() or setAdapter() before training')
    return this.#activeWeights()
  }
}

/** ΔWᵀ of one layer, `[in, out]`, in the shape of its kernel. */
function kernelOf(adapter: Adapter, { module, shape, kind }: AdaptedLayer): Tensor {
  const values = delta(adapter.layer(module, shape), new Float32Array(shape[0] * shape[1]))
  const matrix = tensor2d(Float32Array.from(values), [shape[0], shape[1]])
  return reshape(transpose(matrix), kind.kernel.shape as number[])
}

function moduleNotFound(what: string, module: string, known: Iterable<string>): FourierFTError {
  const names = [...known]
  return new FourierFTError(
    'MODULE_NOT_FOUND',
    `${what}; the nearest: ${nearestNames([module], names, 3).join(', ') || 'none'}`,
    {
      module,
      expected: names,
      received: module,
    },
  )
}
