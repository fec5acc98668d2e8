/** The sessions of one model in the user's ONNX Runtime: as it is, with branches for adapters, or with adapters in its weights. */
import { type Adapter, type Applied, FourierFTError } from '@fourierft/core'
import type { ReadExternal } from '@fourierft/onnx'
import type { InferenceSession } from 'onnxruntime-common'
import { AdaptedGraph } from './adapted-graph.js'
import {
  attachPlan,
  bakeAdapters,
  EMPTY_PLAN,
  findPlaces,
  type LayerPlace,
  type MatchedAdapter,
  type Plan,
} from './layer-places.js'
import { type ModelBytes, type ModelFile, type OpenModel, readBeside } from './model-source.js'
import type { ModuleNames } from './module-names.js'
import type { Ort } from './ort.js'
import { type TakeTurn, turnsOf } from './turns.js'

export class ModelSessions {
  /** Why the native kernel does not serve here; undefined where it does. */
  readonly nativeProblem: string | undefined
  readonly #ort: Ort
  readonly #file: ModelFile
  readonly #options: InferenceSession.SessionOptions
  readonly #takeTurn: TakeTurn

  /** `openSessions` makes these. */
  constructor(
    ort: Ort,
    file: ModelFile,
    options: InferenceSession.SessionOptions,
    nativeProblem: string | undefined,
  ) {
    this.#ort = ort
    this.#file = file
    this.#options = options
    this.nativeProblem = nativeProblem
    this.#takeTurn = turnsOf(ort)
  }

  /** The file, to be looked at and edited. */
  openModel(): Promise<OpenModel> {
    return this.#file.open()
  }

  /** As {@link findPlaces}. */
  placesOf(open: OpenModel, adapter: Adapter, moduleNames: ModuleNames): Promise<Map<string, LayerPlace>> {
    return findPlaces(open.model, adapter, moduleNames, this.readExternal(open))
  }

  /** A session that is open already, of the model as it is. */
  graphOf(session: InferenceSession): AdaptedGraph {
    return new AdaptedGraph(session, this.#ort, EMPTY_PLAN)
  }

  /** One that the caller makes, of the model as it is. */
  async graphFrom(create: () => Promise<InferenceSession>): Promise<AdaptedGraph> {
    return this.graphOf(await this.#takeTurn(create))
  }

  /**
   * The model with the plan's branches. An empty plan gives the model as it is.
   *
   * @param open the model, where it has been opened already; it is used up
   */
  async attached(plan: Plan, open?: OpenModel): Promise<AdaptedGraph> {
    if (plan.branches.size + plan.wholes.size === 0)
      return this.graphOf(await this.#create(await this.#file.asIs()))
    const { model, ...places } = open ?? (await this.openModel())
    const inputs = attachPlan(model, plan)
    return new AdaptedGraph(
      await this.#create({ bytes: model.toBytes(), ...places }),
      this.#ort,
      plan,
      inputs,
    )
  }

  /**
   * The model with W + ΔW in its weights, and the whole layers that adapters replace.
   *
   * @throws {FourierFTError} `UNSUPPORTED` (quantised layers, and what else `bakeBranches` refuses), `NOT_FINITE`
   */
  async merged(added: readonly Applied<MatchedAdapter>[]): Promise<AdaptedGraph> {
    const open = await this.openModel()
    const { model, ...places } = open
    await bakeAdapters(model, added, this.readExternal(open))
    return this.graphOf(await this.#create({ bytes: model.toBytes(), ...places }))
  }

  /** Reads what the model has beside its file. */
  readExternal({ model: _, ...places }: OpenModel): ReadExternal {
    const { externalData } = this.#options
    return (location, offset, length) =>
      readBeside(location, offset, length, { ...(externalData && { externalData }), ...places })
  }

  /**
   * @throws {FourierFTError} `INVALID_OPTION` for an option that the runtime refuses, `INVALID_ONNX` for what is no model, `UNSUPPORTED` for
   *   a model that the runtime refuses
   */
  async #create(model: string | ModelBytes): Promise<InferenceSession> {
    const { InferenceSession } = this.#ort
    const file = this.#file.name
    try {
      return await this.#takeTurn(() =>
        typeof model === 'string'
          ? InferenceSession.create(model, this.#options)
          : InferenceSession.create(model.bytes, withExternalData(this.#options, model)),
      )
    } catch (cause) {
      if (FourierFTError.isInstance(cause)) throw cause
      this.#checkBlamed(cause)
      // What is no model says so itself.
      await this.openModel()
      throw new FourierFTError(
        'UNSUPPORTED',
        `${file}: ONNX Runtime made no session of it: ${String(cause)}`,
        {
          file,
          cause,
        },
      )
    }
  }

  /** ONNX Runtime names an option that it refuses; those whose names are words occur in other messages too. */
  #checkBlamed(cause: unknown): void {
    const given = Object.entries(this.#options)
    const blamed = given.find(([option]) => /[A-Z]/.test(option) && String(cause).includes(option))
    if (blamed === undefined) return
    const [option, received] = blamed
    throw new FourierFTError('INVALID_OPTION', `${option}: ONNX Runtime refuses it: ${String(cause)}`, {
      option,
      received,
      cause,
    })
  }
}

/** With the external data of a model that ONNX Runtime gets as bytes, or the folder in which it looks for them. */
function withExternalData(
  options: InferenceSession.SessionOptions,
  { folder, externalData }: Omit<ModelBytes, 'bytes'>,
): InferenceSession.SessionOptions {
  if (externalData) return { ...options, externalData }
  if (folder === undefined) return options
  const { session, ...extra } = (options.extra ?? {}) as { session?: Record<string, unknown> }
  return {
    ...options,
    extra: { ...extra, session: { model_external_initializers_file_folder_path: folder, ...session } },
  }
}
