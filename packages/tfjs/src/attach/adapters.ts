/**
 * The adapters of one attached model. The verbs and their order are those of `AdapterSet` in `@fourierft/core`; here stands what only a
 * model of TensorFlow.js has: training in place, and adapters that are made at once.
 */
import {
  type Adapter,
  AdapterSet,
  type CreateAdapterOptions,
  createAdapter,
  createConfig,
  createLayer,
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

const DETACHED = 'the model was detached; call attach() again'

/** The adapters of one model that `attach` has made ready: PEFT's verbs, in camel case. */
export class Adapters<Model = LayersModel> extends AdapterSet<LoadedAdapter, MergedKernels> {
  readonly model: Model
  readonly #port: TfjsAdapterHost<Model>

  /** `attach` makes these. */
  constructor(
    host: AttachableModel<Model>,
    { strategy = 'auto' }: { readonly strategy?: TfjsStrategy | 'auto' } = {},
  ) {
    const state: AttachedState = {
      train: (work) =>
        this.train((added) =>
          work(
            added.flatMap(({ adapter }) => adapter.weights),
            (step) => this.#port.withAdded(added, step),
          ),
        ),
      call: () => this.#port.call(),
      isMerged: () => this.mergedAdapters.length > 0,
      changes: () => this.#port.changes,
    }
    const port = new TfjsAdapterHost(host, strategy, state, (adapter) => this.#made(adapter))
    super(port)
    this.model = host.model
    this.#port = port
  }

  /** Names and shapes `[out, in]` of the layers that can have adapters. */
  get shapes(): Readonly<Record<string, Shape>> {
    return Object.fromEntries(Array.from(this.#port.layers, ([name, { shape }]) => [name, shape]))
  }

  /** How active adapters are applied. */
  get strategy(): TfjsStrategy | 'auto' {
    return this.#port.settings.strategy
  }

  /** @throws {FourierFTError} `INVALID_OPTION` */
  set strategy(strategy: TfjsStrategy | 'auto') {
    checkStrategy(strategy)
    this.#port.settings.strategy = strategy
  }

  /** The coefficients of one layer of an adapter, `[n]`: the variable itself, which the adapter owns. */
  coefficients(name: string, module: string): Variable {
    const { branches } = this.placed(name)
    const branch = branches.get(module)
    if (branch) return variableOf(branch.coefficients)
    throw moduleNotFound(`adapter '${name}' has no module '${module}'`, module, branches.keys())
  }

  /** What a training loop of one's own trains: the weights of the active adapters. Valid until an adapter is set or deleted. */
  get trainableVariables(): Variable[] {
    return this.activeAdapters.flatMap((name) => this.placed(name).weights.map(variableOf))
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
    this.includeNow(name, () => {
      const complete =
        'extra' in config && config.extra ? withTaskHeads(config as FourierFTConfig) : createConfig(config)
      rejectTrainedBiases(name, complete)
      const shapes = Object.fromEntries(
        this.#matched(complete).map((module) => [module, this.#layer(module).shape]),
      )
      return this.#port.placed(createAdapter(complete, shapes, options))
    })
  }

  /**
   * The model with the active adapters inside of its own weights. Nothing of this package is left in it, and all adapters are freed.
   *
   * @throws {FourierFTError} as `mergeAdapter`
   */
  mergeAndUnload(): Promise<Model> {
    return this.leave({ keep: 'merged', ended: DETACHED }, async ({ added, merged }) => {
      const kernels = merged ?? (await this.#port.merge(added))
      try {
        if (merged === undefined) this.#port.checkMerged(kernels)
      } catch (error) {
        this.#port.discard(kernels)
        throw error
      }
      this.#port.changed({ choice: { added }, merged: kernels })
      this.#port.keepReplacements(added)
      this.#port.leave({ keepMerged: true })
      return this.model
    })
  }

  /**
   * New coefficients for some layers of an adapter, from a training loop of one's own.
   *
   * @param byModule `[n]` for each module
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
   * Leaves the model as it was found: its weights' bits, its methods, its `trainable` flags. All adapters are freed.
   *
   * @throws {FourierFTError} `INVALID_STATE` while an adapter is being trained
   */
  detach(): void {
    this.finish(DETACHED)
    this.#port.leave({ keepMerged: false })
  }

  #made(adapter: Adapter): LoadedAdapter {
    const { config } = adapter
    const { layers } = this.#port
    const known = Object.fromEntries(
      [...layers]
        .filter(([module]) => adapter.modules.has(module))
        .map(([module, { shape }]) => [module, shape]),
    )
    return new LoadedAdapter(adapter.withShapes(known), layers, this.#wholeModules(config))
  }

  /** The layers that a configuration adapts. */
  #matched(config: FourierFTConfig): string[] {
    const whole = new Set(this.#wholeModules(config))
    const names = this.#port.modules
      .filter(({ hasWeights, isBuilt }) => hasWeights || !isBuilt)
      .map(({ name }) => name)
    const linear = [...this.#port.layers.values()]
      .filter(({ kind }) => kind.isLinear)
      .map(({ module }) => module)
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
    const modules = this.#port.modules
      .filter(({ hasWeights }) => hasWeights)
      .map(({ name }) => name)
      .filter((name) => isSavedWhole(config, name))
    const wanted = endings.find((ending) => !isTaskHead(config, ending))
    if (wanted !== undefined && modules.length === 0) {
      throw moduleNotFound(
        `modulesToSave: the model has no layer ${endings.join(', ')}`,
        wanted,
        this.#port.layers.keys(),
      )
    }
    for (const module of modules) {
      if (!this.#layer(module).kind.isLinear)
        throw this.#unsupported(module, 'be saved whole', ['Dense', 'EinsumDense'])
    }
    return modules
  }

  #layer(module: string): AdaptedLayer {
    const layer = this.#port.layers.get(module)
    if (layer) return layer
    if (this.#port.modules.some(({ name }) => name === module)) {
      throw this.#unsupported(module, 'have adapters', ADAPTABLE_LAYERS)
    }
    throw moduleNotFound(`the model has no layer '${module}'`, module, this.#port.layers.keys())
  }

  #unsupported(module: string, what: string, expected: readonly string[]): FourierFTError {
    const found = this.#port.modules.find(({ name }) => name === module)
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
