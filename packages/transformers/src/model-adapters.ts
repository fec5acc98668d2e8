/** `ModelAdapters`: the adapters of one model. Its methods apply to all sessions of the model, and a call keeps the adapters it started with. */
import {
  Adapter,
  AdapterSet,
  type AdapterSource,
  type CreateAdapterOptions,
  type Ending,
  type FourierFTConfig,
  type FourierFTOptions,
} from '@fourierft/core'
import type { Trainable, TrainableSession } from '@fourierft/onnxruntime/host'
import type { PreTrainedModel, PretrainedConfig } from '@huggingface/transformers'
import type { InferenceSession } from 'onnxruntime-common'
import { overrideCalls, viewOf } from './call-views.js'
import { checkOptions } from './check-options.js'
import { type ClassLabels, configInCall, configWithLabels, labelsOfSum, withLabels } from './class-labels.js'
import { originOf, type PipelineLike } from './library.js'
import type { CallSnapshot, DividedAdapter, MergedParts, ModelHost } from './model-host.js'
import { type ModelPart, PartSession, type RunArguments } from './model-part.js'
import { modulesInHead, type NewHeadOptions, withNewHead } from './new-head.js'
import { type ReadAdapterOptions, readAdapter } from './read-adapter.js'
import { trainedShares } from './whole-adapter.js'

export interface LoadOptions extends ReadAdapterOptions {
  /** The adapter's name. Default: `default`. */
  readonly name?: string
}

export interface ModelAdaptersInit {
  readonly model: PreTrainedModel
  /** The pipeline, if there is one: all calls of the model within one call of the pipeline use the same adapters. */
  readonly pipeline: PipelineLike | undefined
  readonly parts: readonly ModelPart[]
  readonly host: ModelHost
}

/** Runs a session of the model. */
export type RunPart = (part: ModelPart, args: RunArguments) => Promise<InferenceSession.ReturnType>

/** The pieces of a model with adapters from which a server is made. */
export interface Serving {
  readonly host: ModelHost
  readonly parts: readonly ModelPart[]
  /** Returns a view of the pipeline (of the model, if it has no pipeline) for one call, whose sessions are run by `run`. */
  view(run: RunPart, labels: ClassLabels | undefined): PipelineLike | PreTrainedModel
}

/** Models that `mergeAndUnload` has changed. */
const mergedForGood = new WeakSet<PreTrainedModel>()

/** Whether `mergeAndUnload` has left adapters in the model's weights. */
export function isMergedForGood(model: PreTrainedModel): boolean {
  return mergedForGood.has(model)
}

const DETACHED: Ending = { problem: 'the model is detached', advice: 'call attach() again' }

export class ModelAdapters extends AdapterSet<DividedAdapter, MergedParts> implements Trainable {
  readonly model: PreTrainedModel
  /** The pipeline to which `attach` was called; undefined for a model. */
  readonly pipeline: PipelineLike | undefined
  readonly #host: ModelHost
  readonly #parts: readonly ModelPart[]
  readonly #restoreCalls: () => void

  /** Called by `attach`. */
  constructor({ model, pipeline, parts, host }: ModelAdaptersInit) {
    super(host)
    this.model = model
    this.pipeline = pipeline
    this.#host = host
    this.#parts = parts
    const { sessions } = model
    // A direct run of a session is a separate call.
    model.sessions = {
      ...sessions,
      ...this.#sessions((part, args) => this.#call((snapshot) => host.run(snapshot, part, args))),
    }
    const restoreModelCalls = overrideCalls(model, (call) =>
      this.#call((snapshot, config) => call(this.#view(snapshot, config))),
    )
    const restorePipelineCalls =
      pipeline &&
      overrideCalls(pipeline, (call) =>
        this.#call((snapshot, config) => call(viewOf(pipeline, { model: this.#view(snapshot, config) }))),
      )
    this.#restoreCalls = () => {
      restorePipelineCalls?.()
      restoreModelCalls()
      model.sessions = sessions
    }
  }

  /**
   * Adds an adapter from the hub, a directory, a URL, files or memory, or an `Adapter`. The first adapter becomes active. If the adapter needs new
   * sessions, calls continue while they are opened.
   *
   * @throws {FourierFTError} `ADAPTER_EXISTS`, `MODULE_NOT_FOUND`, `SHAPE_MISMATCH`, `UNSUPPORTED`; `INVALID_OPTION` for invalid options, or if
   *   the option `model` of `attach` is another model; `INVALID_STATE` after `detach`, or if the model was disposed of; and the errors of
   *   `loadAdapter` of `@fourierft/core`; then nothing is changed
   */
  override async loadAdapter(source: AdapterSource | Adapter, options: LoadOptions = {}): Promise<void> {
    checkOptions(options, "{ name: 'german' }")
    const { name = 'default', ...readOptions } = options
    await this.include(name, () => readAdapter(source, readOptions))
  }

  /**
   * Adds a new adapter for the layers of all sessions whose names are in the model's files or in `moduleNames`. The first adapter becomes active.
   * `createTrainer` of `@fourierft/onnxruntime` trains it. Whole layers (`modulesToSave`) start with the model's weights.
   *
   * @param config modules, number of coefficients, scaling, seed. The defaults are PEFT's, also the modules for each model type, except that the coefficients start at zero:
   *   the adapter changes nothing until it is trained. PEFT's random coefficients come with `initWeights: false`, or from `createConfig`
   * @throws {FourierFTError} `ADAPTER_EXISTS`, `MODULE_NOT_FOUND`, `INVALID_OPTION`, `INVALID_ENTRY_COUNT`, `INVALID_PATTERN`; `UNSUPPORTED` if
   *   a whole layer is quantised; then nothing is changed
   */
  async addAdapter(
    name: string,
    config: FourierFTConfig | FourierFTOptions = {},
    options: CreateAdapterOptions = {},
  ): Promise<void> {
    const { model_type: modelType } = this.model.config as { readonly model_type?: string | null }
    const named = { baseModelNameOrPath: originOf(this.model)?.name ?? null, ...config }
    await this.include(name, () => this.#host.newAdapter(named, options, modelType ?? undefined))
  }

  /**
   * @internal The inputs of the training graph for a loss of this output. Those of an encoder and a decoder have the names that transformers uses for the
   * whole model (`decoder_input_ids`).
   *
   * @throws {FourierFTError} `INVALID_OPTION` if no session, or several, compute the output
   */
  trainingInputs(output: string): readonly InferenceSession.ValueMetadata[] {
    return this.#host.trainingInputs(output)
  }

  /** @internal What a trainer needs of this model. */
  get trainable(): TrainableSession {
    return {
      adapterToTrain: (name) => {
        const chosen = this.chosenAdapter(name)
        return { name: chosen.name, adapter: chosen.adapter.whole }
      },
      openTraining: (adapter, settings) => this.#host.openTraining(adapter, settings),
      trainAdapter: (name, work) => this.train(work, name),
      replaceAdapter: (name, whole) => {
        const old = this.matchedAdapter(name)
        this.replace(name, { ...old, whole, shares: trainedShares(old.shares, whole) })
      },
    }
  }

  /**
   * Returns the labels of an adapter's head, if its files have them, and whether it needs a new head: the model was exported without one, and the
   * adapter does not have the weights. For `train`.
   *
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`, `INVALID_STATE`
   * @internal
   */
  headOf(name: string): { readonly labels: ClassLabels | undefined; readonly isMissing: boolean } {
    const adapter = this.matchedAdapter(name)
    return { labels: adapter.labels, isMissing: this.#host.needsHead(adapter) }
  }

  /**
   * Gives an adapter a new head for these labels, in one step: its name, its scale and whether it is active are kept. A ΔW of the head's layers is
   * removed. For `train`.
   *
   * @throws {FourierFTError} `ADAPTER_NOT_FOUND`; `UNSUPPORTED` if the model cannot have a head of another size; `INVALID_STATE` if the adapter is
   *   merged or changes meanwhile; an error changes nothing
   * @internal
   */
  async giveHead(name: string, labels: ClassLabels, options: Omit<NewHeadOptions, 'labels'>): Promise<void> {
    const size = { ...options, labels: labels.names.length }
    const layers = await this.#host.headLayers()
    const headed = async (old: Adapter) => withLabels(await withNewHead(old, layers, size), labels)
    const old = await this.getAdapter(name)
    const replaced = modulesInHead(old, layers, options)
    const isAdapted = replaced.size > 0
    // One graph cannot have both a ΔW of a layer, in the old adapter, and a new layer of another size in its place.
    if (isAdapted) await this.exchange(name, (now) => withoutModules(now, replaced))
    try {
      await this.exchange(name, headed)
    } catch (error) {
      if (isAdapted) await this.exchange(name, () => old).catch(() => undefined)
      throw error
    }
  }

  /** @internal Replaces an adapter by another one, as `giveHead` does. */
  async exchangeAdapter(name: string, adapter: Adapter): Promise<void> {
    await this.exchange(name, () => adapter)
  }

  /**
   * Adds the ΔW of the active adapters to the weights for good, and detaches the model. All adapters are removed. Does not wait for running calls.
   *
   * @returns the model, with plain sessions of ONNX Runtime
   * @throws {FourierFTError} as `mergeAdapter`
   */
  async mergeAndUnload(): Promise<PreTrainedModel> {
    await this.leave({ keep: 'merged', ended: DETACHED }, async ({ added, merged }) => {
      this.#restoreModel(await this.#host.unload(added, merged, this.matchedAdapters()))
      const labels = labelsOfSum(added)
      if (labels) this.model.config = configWithLabels(this.model.config, labels)
      mergedForGood.add(this.model)
    })
    return this.model
  }

  /**
   * Restores the model's original sessions: the same objects or, for sessions in which an adapter had layers, new ones from the same files and
   * options. All adapters are removed; running calls keep theirs. Sessions that were closed elsewhere (`dispose`) stay closed.
   */
  async detach(): Promise<void> {
    try {
      await this.leave({ keep: 'base', ended: DETACHED }, async ({ merged }) =>
        this.#restoreModel(await this.#host.unload([], merged, this.matchedAdapters())),
      )
    } catch (error) {
      if (!this.#host.isClosed) throw error
      const { adapters, merged } = this.finish(DETACHED)
      await this.idle()
      this.#restoreModel(await this.#host.unload([], merged, adapters))
    }
  }

  #restoreModel(sessions: ReadonlyMap<string, InferenceSession>): void {
    this.#restoreCalls()
    for (const [name, session] of sessions) this.model.sessions[name] = session
  }

  /** Runs a call. Chooses its adapters before anything is awaited. */
  async #call<T>(work: (snapshot: CallSnapshot, config: PretrainedConfig) => Promise<T>): Promise<T> {
    const { choice, merged } = this.callState()
    const snapshot = this.#host.beginCall(choice, merged)
    try {
      return await work(snapshot, configInCall(this.model.config, choice))
    } finally {
      this.#host.endCall(snapshot)
    }
  }

  #sessions(run: RunPart): Record<string, PartSession> {
    return Object.fromEntries(
      this.#parts.map((part) => [part.name, new PartSession(part, (args) => run(part, args))]),
    )
  }

  /** Returns a view of the model for one call: with sessions that apply the call's adapters, and with their labels in the configuration. */
  #view(snapshot: CallSnapshot, config: PretrainedConfig): PreTrainedModel {
    return this.#viewWith((part, args) => this.#host.run(snapshot, part, args), config)
  }

  #viewWith(run: RunPart, config: PretrainedConfig): PreTrainedModel {
    return viewOf(this.model, {
      sessions: { ...this.model.sessions, ...this.#sessions(run) },
      ...(config !== this.model.config && { config }),
    })
  }

  /** @internal What a server needs of this model, which chooses the adapters of each run itself. */
  get serving(): Serving {
    const { pipeline } = this
    return {
      host: this.#host,
      parts: this.#parts,
      view: (run, labels) => {
        const { config } = this.model
        const view = this.#viewWith(run, labels ? configWithLabels(config, labels) : config)
        return pipeline ? viewOf(pipeline, { model: view }) : view
      },
    }
  }
}

/** Returns a copy of the adapter without the modules in `removed`. */
function withoutModules(adapter: Adapter, removed: ReadonlySet<string>): Adapter {
  const { config, savedTensors, baseTensors, ignoredTensors, metadata } = adapter
  const modules = new Map([...adapter.modules].filter(([module]) => !removed.has(module)))
  return new Adapter({ config, modules, savedTensors, baseTensors, ignoredTensors, metadata })
}
