/**
 * The host of `AdapterSet` for a model of TensorFlow.js, whose layers compute with the active adapters. A model runs each batch
 * synchronously, so the active adapters are set before a call and cannot change during it. Each training step sets the adapters that it
 * trains (`withAdded`).
 */
import {
  type Adapter,
  type AdapterHost,
  type Applied,
  type CallState,
  createLayer,
  delta,
  FourierFTError,
  invalidState,
  isSameChoice,
} from '@fourierft/core'
import { add, reshape, type Tensor, tensor2d, tidy, transpose } from '@tensorflow/tfjs-core'
import { variableOf } from '../layers-internals.js'
import type { TfjsStrategy } from '../strategies/strategy.js'
import { TableCache } from '../table-cache.js'
import { AdaptedLayer } from './adapted-layer.js'
import type { AttachableModel, AttachableModule, AttachedState } from './attachable-model.js'
import { checkBaseTensors } from './check-base-tensors.js'
import type { LoadedAdapter } from './loaded-adapter.js'

/** Merged kernels, `W + ΔW`, by layer. Once a kernel takes effect, its layer owns it. */
export type MergedKernels = ReadonlyMap<AdaptedLayer, Tensor>

type State = CallState<LoadedAdapter, MergedKernels>

/** The layers of all attached models: a layer can be attached only once at a time. */
const attachedLayers = new WeakSet<object>()

export class TfjsAdapterHost<Model> implements AdapterHost<LoadedAdapter, MergedKernels> {
  readonly model: Model
  readonly modules: readonly AttachableModule[]
  readonly layers = new Map<string, AdaptedLayer>()
  readonly settings: { strategy: TfjsStrategy | 'auto'; tables: TableCache; rows: Int32Array | undefined }
  /** Converts an adapter's coefficients and replacement weights to variables. */
  readonly #load: (adapter: Adapter) => LoadedAdapter
  readonly #restore: () => void
  readonly #adapters = new Set<LoadedAdapter>()
  #state: State = { choice: { added: [] }, merged: undefined }
  #training = 0
  /** For each merged kernel, the data of the base model's kernel that it was computed from. */
  readonly #bases = new WeakMap<Tensor, object>()
  /** How many times the active adapters have changed. */
  changes = 0

  /** @throws {FourierFTError} `INVALID_STATE` if a layer is already attached */
  constructor(
    attachable: AttachableModel<Model>,
    strategy: TfjsStrategy | 'auto',
    attached: AttachedState,
    load: (adapter: Adapter) => LoadedAdapter,
  ) {
    this.model = attachable.model
    this.modules = attachable.modules
    this.settings = { strategy, tables: new TableCache(), rows: undefined }
    this.#load = load
    const attachedModule = attachable.modules.find(({ kind, owner }) => kind && attachedLayers.has(owner))
    if (attachedModule) {
      throw new FourierFTError('INVALID_STATE', `layer '${attachedModule.name}' is already attached`, {
        advice: 'use the object that attach() returned, or detach() it first',
        module: attachedModule.name,
      })
    }
    this.#restore = attachable.prepare({
      ...attached,
      train: (work) =>
        attached.train(async (weights, step) => {
          this.#training++
          try {
            return await work(weights, step)
          } finally {
            this.#training--
          }
        }),
    })
    for (const module of attachable.modules) {
      const { kind, name, owner } = module
      if (!kind) continue
      attachedLayers.add(owner)
      this.layers.set(name, new AdaptedLayer(module, kind, this.settings))
    }
  }

  async match(_name: string, adapter: Adapter): Promise<LoadedAdapter> {
    await checkBaseTensors(adapter, this.layers)
    return this.load(adapter)
  }

  /** Matches an adapter synchronously. The adapter must not contain weights of the base model. */
  load(adapter: Adapter): LoadedAdapter {
    const loaded = this.#load(adapter)
    this.#adapters.add(loaded)
    return loaded
  }

  /** The layers can apply any entries. */
  serves(): boolean {
    return true
  }

  async rebuild(): Promise<void> {}

  async merge(added: readonly Applied<LoadedAdapter>[]): Promise<MergedKernels> {
    if (this.#training > 0)
      throw invalidState('the model is being trained with its original weights', 'await the training first')
    const adapters = await Promise.all(
      added.map(async ({ adapter, scale }) => ({ adapter: await adapter.snapshot(), scale })),
    )
    const kernels = new Map<AdaptedLayer, Tensor>()
    try {
      for (const layer of this.layers.values()) {
        const adaptersOfLayer = adapters.filter(({ adapter }) => adapter.modules.has(layer.module))
        if (adaptersOfLayer.length === 0) continue
        const { baseKernel } = layer
        const kernel = tidy(() =>
          adaptersOfLayer.reduce((sum, applied) => add(sum, kernelChange(applied, layer)), baseKernel),
        )
        kernels.set(layer, kernel)
        this.#bases.set(kernel, baseKernel.dataId)
      }
      for (const [layer, kernel] of kernels) await checkFinite(kernel, layer)
    } catch (error) {
      this.discard(kernels)
      throw error
    }
    return kernels
  }

  checkMerged(kernels: MergedKernels): void {
    for (const [{ module, baseKernel }, kernel] of kernels)
      if (baseKernel.dataId !== this.#bases.get(kernel))
        throw invalidState(
          `layer '${module}': its weight was written while adapters were being merged`,
          'merge them again',
        )
  }

  discard(kernels: MergedKernels): void {
    for (const kernel of kernels.values()) if (!kernel.isDisposed) kernel.dispose()
  }

  changed(state: State): void {
    const before = this.#state
    this.#state = state
    if (before.merged !== state.merged || !isSameChoice(before.choice, state.choice)) this.changes++
    if (before.merged !== state.merged) {
      for (const layer of before.merged?.keys() ?? []) layer.unmerge()
      for (const [layer, kernel] of state.merged ?? []) layer.merge(kernel)
    }
    this.#apply(state)
  }

  /** Runs a synchronous function with these adapters active, and no others. */
  withAdded<R>(added: readonly Applied<LoadedAdapter>[], run: () => R): R {
    return this.#with({ choice: { added }, merged: undefined }, run)
  }

  /** @see AttachedState */
  call(): <R>(part: () => R) => R {
    const state = this.#state
    return (part) => {
      if (this.#state === state) return part()
      const isKept =
        this.#state.merged === state.merged &&
        usedBy(state).every(({ adapter }) => this.#adapters.has(adapter))
      if (isKept) return this.#with(state, part)
      throw invalidState(
        'an adapter was deleted, merged or unmerged while the model was being evaluated',
        'evaluate it again',
      )
    }
  }

  #with<R>(state: State, run: () => R): R {
    this.#apply(state)
    try {
      return run()
    } finally {
      this.#apply(this.#state)
    }
  }

  checkRows(rows: readonly (Applied<LoadedAdapter> | null)[]): void {
    const adapters = new Set(rows.map((row) => row?.adapter))
    for (const adapter of adapters) {
      if (adapter === undefined) continue
      const { branches, replaces } = adapter
      const [replaced] = replaces.values()
      if (replaced !== undefined && adapters.size > 1)
        throw new FourierFTError(
          'UNSUPPORTED',
          `an adapter replaces layer '${replaced}' (modulesToSave), so it cannot share a batch with other adapters`,
          {
            advice: 'predict the rows of each adapter in a separate batch',
            module: replaced,
            option: 'names',
          },
        )
      const unsupported = [...branches.keys()].find(
        (module) => this.layers.get(module)?.kind.allowsAdapterPerRow === false,
      )
      if (unsupported !== undefined)
        throw new FourierFTError(
          'UNSUPPORTED',
          `layer '${unsupported}' is a convolution with a kernel or strides above 1, which has one kernel for the whole batch`,
          {
            advice: 'predict the rows of each adapter in a separate batch',
            module: unsupported,
            option: 'names',
          },
        )
    }
  }

  /** @throws {FourierFTError} `INVALID_STATE` after the user's `model.dispose()` */
  checkLive(): void {
    const layers = [...this.layers.values()]
    if (layers.length > 0 && layers.every(({ isDisposed }) => isDisposed))
      throw invalidState('the model was disposed of', 'load it again and call attach()')
  }

  adapterOf(adapter: LoadedAdapter): Promise<Adapter> {
    return adapter.snapshot()
  }

  forget(adapter: LoadedAdapter): void {
    this.#adapters.delete(adapter)
    adapter.dispose()
    const entries = [...this.#adapters].flatMap(({ branches }) =>
      Array.from(branches.values(), ({ spec }) => spec.entries),
    )
    this.settings.tables.retain(entries)
  }

  /** Copies the replacement weights of these adapters to the model. */
  keepReplacements(added: readonly Applied<LoadedAdapter>[]): void {
    for (const [module, { kind }] of this.layers) {
      const [replacement] = added.flatMap(({ adapter }) => adapter.replacements.get(module) ?? [])
      if (!replacement) continue
      variableOf(kind.kernel).assign(replacement.kernel.read())
      if (kind.bias && replacement.bias) variableOf(kind.bias).assign(replacement.bias.read())
    }
  }

  /** Restores the model. With `keepMerged` merged weights stay. */
  leave(options: { readonly keepMerged: boolean }): void {
    for (const layer of this.layers.values()) layer.detach(options)
    for (const { owner } of this.modules) attachedLayers.delete(owner)
    for (const adapter of this.#adapters) adapter.dispose()
    this.#adapters.clear()
    this.settings.tables.dispose()
    this.#restore()
  }

  #apply({ choice, merged }: State): void {
    const rows = 'perRow' in choice ? choice.perRow : undefined
    const used = usedBy({ choice })
    this.settings.rows =
      rows &&
      Int32Array.from(rows, (row) => used.findIndex((applied) => row !== null && isSame(applied, row)))
    for (const layer of this.layers.values())
      layer.setActive(used.map(({ adapter, scale }) => ({ ...adapter.part(layer.module), scale })))
    if (rows) return
    const trained = new Set(merged ? [] : used.flatMap(({ adapter }) => adapter.weights))
    for (const { weights } of this.#adapters)
      for (const weight of weights) weight.trainable = trained.has(weight)
  }
}

function usedBy({ choice }: Pick<State, 'choice'>): readonly Applied<LoadedAdapter>[] {
  return 'added' in choice ? choice.added : distinct(choice.perRow)
}

function isSame<P>(one: Applied<P>, other: Applied<P>): boolean {
  return one.adapter === other.adapter && one.scale === other.scale
}

function distinct<P>(rows: readonly (Applied<P> | null)[]): Applied<P>[] {
  const used = rows.filter((row) => row !== null)
  return used.filter((row, i) => used.findIndex((other) => isSame(row, other)) === i)
}

/** Rejects a merged weight that exceeds the range of float32, because ΔW or the scale is large. */
async function checkFinite(kernel: Tensor, { module }: AdaptedLayer): Promise<void> {
  const values = await kernel.data()
  if (values.every(Number.isFinite)) return
  throw new FourierFTError(
    'NOT_FINITE',
    `layer '${module}': its merged weight has a number that float32 cannot hold`,
    { advice: 'merge fewer adapters, or with a lower scale', module },
  )
}

/** Returns ΔWᵀ of one layer, `[in, out]`, in the shape of its kernel. */
function kernelChange({ adapter, scale }: Applied<Adapter>, { module, shape, kind }: AdaptedLayer): Tensor {
  const layer = adapter.layer(module, shape)
  const scaled = createLayer({ ...layer, scaling: layer.scaling * scale })
  const values = delta(scaled, new Float32Array(shape[0] * shape[1]))
  const matrix = tensor2d(Float32Array.from(values), [shape[0], shape[1]])
  return reshape(transpose(matrix), kind.kernel.shape as number[])
}
