/** `ModelSessions`: opens one model in the user's ONNX Runtime: unchanged, with slots (`AdapterSlots`), or with adapters in its weights. */
import { type Adapter, type Applied, FourierFTError } from '@fourierft/core'
import type { LinearLayer, MemoryPolicy, OnnxModel, ReadExternal } from '@fourierft/onnx'
import type { InferenceSession } from 'onnxruntime-common'
import { AdaptedGraph } from './adapted-graph.js'
import { type AdapterSlots, attachSlots, bakeAdapters, NO_SLOTS } from './adapter-slots.js'
import { findAdapterLayers, type LayerContext, type MatchedLayer, namedLayers } from './matched-layers.js'
import { type ModelBytes, type ModelFile, type OpenModel, readBeside } from './model-source.js'
import type { ModuleNames } from './module-names.js'
import { BACKEND } from './native-backend.js'
import type { Ort } from './ort.js'
import { type Enqueue, runtimeQueue } from './runtime-queue.js'
import type { SessionAdapter } from './session-adapter.js'
import {
  attachForTraining,
  digestOf,
  TrainingSession,
  type TrainingSettings,
} from './trainer/training-session.js'

/** A change of the model in a file, whenever it is read: for example, a head that is added. */
export interface ModelChange {
  readonly edit: (model: OnnxModel) => void
  /** Returns the name of a module for adapters, from its name in the file. */
  readonly rename: (module: string) => string
}

export interface ModelSessionsInit {
  readonly ort: Ort
  readonly file: ModelFile
  readonly options: InferenceSession.SessionOptions
  readonly nativeProblem: string | undefined
  readonly change: ModelChange | undefined
}

export class ModelSessions {
  /** The reason why the native kernel is not used; undefined if it is used. */
  readonly nativeProblem: string | undefined
  readonly #ort: Ort
  readonly #file: ModelFile
  readonly #options: InferenceSession.SessionOptions
  readonly #change: ModelChange | undefined
  readonly #enqueue: Enqueue

  /** Called by `openSessions`. */
  constructor({ ort, file, options, nativeProblem, change }: ModelSessionsInit) {
    this.#ort = ort
    this.#file = file
    this.#options = options
    this.nativeProblem = nativeProblem
    this.#change = change
    this.#enqueue = runtimeQueue(ort)
  }

  /** Reads the file, to inspect or edit it. */
  async openModel(): Promise<OpenModel> {
    const opened = await this.#file.open()
    this.#change?.edit(opened.model)
    return opened
  }

  /** Same as {@link findAdapterLayers}. */
  findAdapterLayers(
    opened: OpenModel,
    adapter: Adapter,
    moduleNames: ModuleNames,
  ): Promise<Map<string, MatchedLayer>> {
    return findAdapterLayers(opened.model, adapter, this.#layerContext(opened, moduleNames))
  }

  /** Same as {@link namedLayers}. */
  namedLayers(opened: OpenModel, moduleNames: ModuleNames): Promise<Map<string, LinearLayer>> {
    return namedLayers(opened.model, this.#layerContext(opened, moduleNames))
  }

  #layerContext(opened: OpenModel, moduleNames: ModuleNames): LayerContext {
    const rename = (module: string) => this.#change?.rename(module) ?? module
    return { moduleNames, readExternal: this.readExternal(opened), rename }
  }

  /** Returns the graph of an open session whose model has no slots. */
  graphWithoutSlots(session: InferenceSession): AdaptedGraph {
    return new AdaptedGraph(session, this.#ort, NO_SLOTS)
  }

  /** Creates a session with the caller's function, and returns its graph. The model has no slots. */
  async createWithoutSlots(create: () => Promise<InferenceSession>): Promise<AdaptedGraph> {
    return this.graphWithoutSlots(await this.#enqueue(create))
  }

  /**
   * Opens the model with slots for adapters, or unchanged if there are no slots.
   *
   * @param opened the model, if it has been read already. It is edited.
   */
  async openAttached(slots: AdapterSlots, opened?: OpenModel): Promise<AdaptedGraph> {
    if (slots.branches.size + slots.replaceable.size === 0)
      return this.graphWithoutSlots(await this.#create(await this.#file.unchanged()))
    const { model, ...externalData } = opened ?? (await this.openModel())
    const join = runsOnCpu(this.#options) ? { isPortable: this.nativeProblem !== undefined } : undefined
    const inputs = attachSlots(model, slots, join)
    return new AdaptedGraph(
      await this.#create({ bytes: model.toBytes(), ...externalData }),
      this.#ort,
      slots,
      inputs,
    )
  }

  /**
   * Opens the model with W + ΔW in its weights, and with the adapters' modules in place of its own.
   *
   * @throws {FourierFTError} `UNSUPPORTED` (quantised layers, and the other limits of `bakeBranches`), `NOT_FINITE`
   */
  async openMerged(added: readonly Applied<SessionAdapter>[]): Promise<AdaptedGraph> {
    const opened = await this.openModel()
    const { model, ...externalData } = opened
    await bakeAdapters(model, added, {
      readExternal: this.readExternal(opened),
      inlineUpTo: Number.POSITIVE_INFINITY,
    })
    return this.graphWithoutSlots(await this.#create({ bytes: model.toBytes(), ...externalData }))
  }

  /**
   * Opens the training graph of one adapter: its branches and replaced layers, the loss, and their gradients.
   *
   * @param opened the model, if it is not the one of this file. It is edited
   * @throws {FourierFTError} as `makeTrainingGraph`
   */
  async training(
    adapter: SessionAdapter,
    settings: TrainingSettings,
    opened?: OpenModel,
  ): Promise<TrainingSession> {
    const open = opened ?? (await this.openModel())
    const { model, ...externalData } = open
    const modelDigest = await digestOf(model, this.readExternal(open))
    const attached = { ...attachForTraining(model, adapter, settings), modelDigest }
    const session = await this.#create(
      { bytes: model.toBytes(), ...externalData },
      trainingOptions(this.#options, settings.memory ?? 'fast'),
    )
    return new TrainingSession(session, this.#ort, attached)
  }

  /** Reads the model's external data. */
  readExternal({ model: _, ...source }: OpenModel): ReadExternal {
    const { externalData } = this.#options
    return (location, offset, length) =>
      readBeside(location, offset, length, { ...(externalData && { externalData }), ...source })
  }

  /**
   * @throws {FourierFTError} `INVALID_OPTION` for an option that the runtime rejects, `INVALID_ONNX` if the file is not a model, `UNSUPPORTED`
   *   for a model that the runtime rejects
   */
  async #create(
    model: string | ModelBytes,
    options: InferenceSession.SessionOptions = this.#options,
  ): Promise<InferenceSession> {
    const { InferenceSession } = this.#ort
    const file = this.#file.name
    try {
      return await this.#enqueue(() =>
        typeof model === 'string'
          ? InferenceSession.create(model, options)
          : InferenceSession.create(model.bytes, withExternalData(options, model)),
      )
    } catch (cause) {
      if (FourierFTError.isInstance(cause)) throw cause
      this.#checkOptions(cause)
      // Throws `INVALID_ONNX` if the file is not a model.
      await this.openModel()
      throw new FourierFTError(
        'UNSUPPORTED',
        `${file}: ONNX Runtime cannot open the model: ${String(cause)}`,
        {
          file,
          cause,
        },
      )
    }
  }

  /**
   * Throws `INVALID_OPTION` if the message of ONNX Runtime names an option. Only camel-case names count: the other names are words that occur in
   * other messages.
   */
  #checkOptions(cause: unknown): void {
    const rejected = Object.entries(this.#options).find(
      ([option]) => /[A-Z]/.test(option) && String(cause).includes(option),
    )
    if (rejected === undefined) return
    const [option, received] = rejected
    throw new FourierFTError(
      'INVALID_OPTION',
      `${option}: ONNX Runtime rejects this option: ${String(cause)}`,
      {
        option,
        received,
        cause,
      },
    )
  }
}

/**
 * After the first run, ONNX Runtime allocates all values of a memory pattern in one piece, beside the pieces of the first run, which it keeps. A
 * training step holds so many activations that both would be a fifth of the memory.
 */
const TRAINING_DEFAULTS: InferenceSession.SessionOptions = { enableMemPattern: false }

function trainingOptions(
  options: InferenceSession.SessionOptions,
  memory: MemoryPolicy,
): InferenceSession.SessionOptions {
  // The outputs of a training graph are read here. They are not those of the model, which the option names.
  const { preferredOutputLocation: _, ...others } = options
  return { ...TRAINING_DEFAULTS, ...(memory === 'lean' ? withSessionConfig(others, UNPACKED) : others) }
}

/** ONNX Runtime otherwise stores each weight of a matrix product in another order, beside the original. */
const UNPACKED = { disable_prepacking: '1' }

/** Adds entries to ONNX Runtime's configuration of a session, unless the options have them. */
function withSessionConfig(
  options: InferenceSession.SessionOptions,
  entries: Readonly<Record<string, string>>,
): InferenceSession.SessionOptions {
  const { session, ...extra } = (options.extra ?? {}) as { session?: Record<string, unknown> }
  return { ...options, extra: { ...extra, session: { ...entries, ...session } } }
}

/** Whether all execution providers compute on the CPU. */
function runsOnCpu({ executionProviders = [] }: InferenceSession.SessionOptions): boolean {
  return executionProviders.every((provider) => {
    const { name, device = 'cpu' }: { name: string; device?: unknown } =
      typeof provider === 'string' ? { name: provider } : provider
    return name === 'cpu' || name === 'wasm' || (name === BACKEND && device === 'cpu')
  })
}

/** Adds to the options the external data of a model that is passed as bytes, or the folder of these data. */
function withExternalData(
  options: InferenceSession.SessionOptions,
  { folder, externalData }: Omit<ModelBytes, 'bytes'>,
): InferenceSession.SessionOptions {
  if (externalData) return { ...options, externalData }
  if (folder === undefined) return options
  return withSessionConfig(options, { model_external_initializers_file_folder_path: folder })
}
