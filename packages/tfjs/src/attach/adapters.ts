/**
 * The adapters of one attached model. `AdapterSet` in `@fourierft/core` implements most methods. This class adds those that only models of
 * TensorFlow.js have: training in place, and the synchronous `addAdapter`.
 */
import {
  type Adapter,
  AdapterSet,
  type CreateAdapterOptions,
  createAdapter,
  createConfig,
  createLayer,
  type Ending,
  type FloatArray,
  type FourierFTConfig,
  FourierFTError,
  type FourierFTOptions,
  isSavedWhole,
  isTaskHead,
  matchModules,
  nearestNames,
  rejectTrainedBiases,
  type Shape,
  withTaskHeads,
} from '@fourierft/core'
import { tensor1d, type Variable } from '@tensorflow/tfjs-core'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import { ADAPTABLE_LAYERS } from '../kinds/registry.js'
import { variableOf } from '../layers-internals.js'
import type { TfjsStrategy } from '../strategies/strategy.js'
import type { AdaptedLayer } from './adapted-layer.js'
import { type MergedKernels, TfjsAdapterHost } from './adapter-host.js'
import type { AttachableModel, AttachedState } from './attachable-model.js'
import { checkStrategy } from './check-options.js'
import { LoadedAdapter } from './loaded-adapter.js'

const DETACHED: Ending = { problem: 'the model was detached', advice: 'call attach() again' }

/** The adapters of one attached model, with PEFT's methods in camel case. */
export class Adapters<Model = LayersModel> extends AdapterSet<LoadedAdapter, MergedKernels> {
  readonly model: Model
  readonly #host: TfjsAdapterHost<Model>

  /** Use `attach`. */
  constructor(
    attachable: AttachableModel<Model>,
    { strategy = 'auto' }: { readonly strategy?: TfjsStrategy | 'auto' } = {},
  ) {
    const state: AttachedState = {
      train: (work) =>
        this.train((added) =>
          work(
            added.flatMap(({ adapter }) => adapter.weights),
            (step) => this.#host.withAdded(added, step),
          ),
        ),
      call: () => this.#host.call(),
      isMerged: () => this.mergedAdapters.length > 0,
      changes: () => this.#host.changes,
    }
    const host = new TfjsAdapterHost(attachable, strategy, state, (adapter) => this.#loaded(adapter))
    super(host)
    this.model = attachable.model
    this.#host = host
  }

  /** Names and shapes `[out, in]` of the layers that can have adapters. */
  get shapes(): Readonly<Record<string, Shape>> {
    return Object.fromEntries(Array.from(this.#host.layers, ([name, { shape }]) => [name, shape]))
  }

  /** How active adapters are applied. */
  get strategy(): TfjsStrategy | 'auto' {
    return this.#host.settings.strategy
  }

  /** @throws {FourierFTError} `INVALID_OPTION` */
  set strategy(strategy: TfjsStrategy | 'auto') {
    checkStrategy(strategy)
    this.#host.settings.strategy = strategy
  }

  /** Returns the variable with the coefficients of one layer of an adapter, `[n]`. The adapter owns it. */
  coefficients(name: string, module: string): Variable {
    const { branches } = this.matchedAdapter(name)
    const branch = branches.get(module)
    if (branch) return variableOf(branch.coefficients)
    throw moduleNotFound(`adapter '${name}' has no module '${module}'`, module, branches.keys())
  }

  /** The weights of the active adapters, for your own training loop. Valid until an adapter is set or deleted. */
  get trainableVariables(): Variable[] {
    return this.activeAdapters.flatMap((name) => this.matchedAdapter(name).weights.map(variableOf))
  }

  /**
   * Adds a new adapter for training. It becomes active if it is the first. Coefficients start as in PEFT: standard normal, or zeros with
   * `initWeights: true`.
   *
   * @param config the layers (`targetModules`), number of coefficients, scaling, seed; with PEFT's defaults
   * @throws {FourierFTError} `ADAPTER_EXISTS`, `MODULE_NOT_FOUND`, `UNSUPPORTED`, `INVALID_OPTION`, `INVALID_ENTRY_COUNT`,
   *   `INVALID_PATTERN`; nothing is changed then
   */
  addAdapter(
    name: string,
    config: FourierFTOptions | FourierFTConfig,
    options: CreateAdapterOptions = {},
  ): void {
    this.includeNow(name, () => {
      const complete =
        'extra' in config && config.extra ? withTaskHeads(config as FourierFTConfig) : createConfig(config)
      rejectTrainedBiases(name, complete)
      const shapes = Object.fromEntries(
        this.#matched(complete).map((module) => [module, this.#layer(module).shape]),
      )
      return this.#host.load(createAdapter(complete, shapes, options))
    })
  }

  /**
   * Merges the active adapters into the model's weights and returns the plain model. All adapters are freed.
   *
   * @throws {FourierFTError} as `mergeAdapter`
   */
  mergeAndUnload(): Promise<Model> {
    return this.leave({ keep: 'merged', ended: DETACHED }, async ({ added, merged }) => {
      const kernels = merged ?? (await this.#host.merge(added))
      try {
        if (merged === undefined) this.#host.checkMerged(kernels)
      } catch (error) {
        this.#host.discard(kernels)
        throw error
      }
      this.#host.changed({ choice: { added }, merged: kernels })
      this.#host.keepReplacements(added)
      this.#host.leave({ keepMerged: true })
      return this.model
    })
  }

  /**
   * Sets the coefficients of some layers of an adapter, for your own training loop.
   *
   * @param byModule coefficients `[n]` by module
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`, `MODULE_NOT_FOUND`, `SHAPE_MISMATCH`, `NOT_FINITE`, `INVALID_STATE` while merged;
   *   nothing is changed then
   */
  setCoefficients(name: string, byModule: Readonly<Record<string, FloatArray>>): void {
    this.edit(name, ({ branches }) => {
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
    })
  }

  /**
   * Restores the model: its weights (bit for bit), its methods and its `trainable` flags. All adapters are freed.
   *
   * @throws {FourierFTError} `INVALID_STATE` while an adapter is being trained
   */
  detach(): void {
    this.finish(DETACHED)
    this.#host.leave({ keepMerged: false })
  }

  #loaded(adapter: Adapter): LoadedAdapter {
    const { config } = adapter
    const { layers } = this.#host
    const shapes = Object.fromEntries(
      [...layers]
        .filter(([module]) => adapter.modules.has(module))
        .map(([module, { shape }]) => [module, shape]),
    )
    return new LoadedAdapter(adapter.withShapes(shapes), layers, this.#replacedModules(config))
  }

  /** Returns the layers that a configuration adapts. */
  #matched(config: FourierFTConfig): string[] {
    const replaced = new Set(this.#replacedModules(config))
    const names = this.#host.modules
      .filter(({ hasWeights, isBuilt }) => hasWeights || !isBuilt)
      .map(({ name }) => name)
    const linear = [...this.#host.layers.values()]
      .filter(({ kind }) => kind.isLinear)
      .map(({ module }) => module)
    const matched = matchModules(config, names, { linear }).filter((module) => !replaced.has(module))
    for (const module of matched) this.#layer(module)
    return matched
  }

  /**
   * Returns the layers that a configuration trains and saves as a whole. As in PEFT, `modulesToSave` lists the ends of their names, or of the names
   * of models that contain them. An ending without a match is accepted if another ending matches, or if PEFT adds it for a task, such as
   * `classifier`.
   */
  #replacedModules(config: FourierFTConfig): string[] {
    const endings = config.modulesToSave ?? []
    const modules = this.#host.modules
      .filter(({ hasWeights }) => hasWeights)
      .map(({ name }) => name)
      .filter((name) => isSavedWhole(config, name))
    const required = endings.find((ending) => !isTaskHead(config, ending))
    if (required !== undefined && modules.length === 0) {
      throw moduleNotFound(
        `modulesToSave: the model has no layer ${endings.join(', ')}`,
        required,
        this.#host.layers.keys(),
      )
    }
    for (const module of modules) {
      if (!this.#layer(module).kind.isLinear)
        throw this.#unsupported(module, 'be saved as a whole', ['Dense', 'EinsumDense'])
    }
    return modules
  }

  #layer(module: string): AdaptedLayer {
    const layer = this.#host.layers.get(module)
    if (layer) return layer
    if (this.#host.modules.some(({ name }) => name === module)) {
      throw this.#unsupported(module, 'have adapters', ADAPTABLE_LAYERS)
    }
    throw moduleNotFound(`the model has no layer '${module}'`, module, this.#host.layers.keys())
  }

  #unsupported(module: string, ability: string, expected: readonly string[]): FourierFTError {
    const found = this.#host.modules.find(({ name }) => name === module)
    const received = found?.typeName
    if (found?.isBuilt === false) {
      return new FourierFTError(
        'UNSUPPORTED',
        `layer '${module}' is a ${received} without weights: the layer that contains it creates them when it first runs`,
        { advice: 'run the model once (model.predict), then attach it', module, received },
      )
    }
    return new FourierFTError(
      'UNSUPPORTED',
      `layer '${module}' is a ${received}, and only these can ${ability}: ${expected.join(', ')}`,
      { module, expected, received },
    )
  }
}

function moduleNotFound(problem: string, module: string, moduleNames: Iterable<string>): FourierFTError {
  const names = [...moduleNames]
  return new FourierFTError(
    'MODULE_NOT_FOUND',
    `${problem}; the nearest: ${nearestNames([module], names, 3).join(', ') || 'none'}`,
    {
      module,
      expected: names,
      received: module,
    },
  )
}
