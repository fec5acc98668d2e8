/**
 * One of the sessions of a model: transformers.js's own until an adapter has layers in it, one with branches from then on. What stands in
 * `model.sessions` is a `PartSession`, which stays.
 */
import type { ModuleNames, Ort } from '@fourierft/onnxruntime'
import { AdaptedGraph, EMPTY_PLAN, openSessions, SessionHost } from '@fourierft/onnxruntime/host'
import type { InferenceSession } from 'onnxruntime-common'
import type { ModelSession } from './library.js'
import type { ModelFiles } from './model-files.js'

export interface PartOptions {
  readonly moduleNames: ModuleNames
  readonly native: 'auto' | boolean
}

export interface ModelPartParts {
  /** What transformers.js calls the session. */
  readonly name: string
  readonly session: InferenceSession
  /** What has made it. */
  readonly ort: Ort
  readonly files: ModelFiles
  readonly options: PartOptions
}

export type RunArguments = Parameters<InferenceSession['run']>

export class ModelPart {
  readonly name: string
  readonly host: SessionHost
  readonly #own: InferenceSession
  readonly #ort: Ort
  readonly #files: ModelFiles

  constructor({ name, session, ort, files, options: { moduleNames, native } }: ModelPartParts) {
    this.name = name
    this.#own = session
    this.#ort = ort
    this.#files = files
    this.host = new SessionHost({
      graph: new AdaptedGraph(session, ort, EMPTY_PLAN),
      moduleNames,
      async sessions() {
        const { model, options: sessionOptions } = await files.of(name)
        return openSessions(model, { ort, native, sessionOptions })
      },
    })
  }

  /** What transformers.js keeps at a session: dtype and device. */
  get config(): unknown {
    return (this.#own as ModelSession).config
  }

  /** What transformers.js does when the model is disposed of. */
  release(): Promise<void> {
    return this.host.release('the model was disposed of; load it once more')
  }

  /** The session as it was before it was adapted: itself, or one of its bits. */
  async restored(): Promise<InferenceSession> {
    if (this.host.session === this.#own) return this.#own
    const { InferenceSession } = this.#ort
    // Nothing is given up before the files are found.
    const { model, options } = await this.#files.origin(this.name)
    return this.left(
      await this.host.giveBack(() =>
        typeof model === 'string'
          ? InferenceSession.create(model, options)
          : InferenceSession.create(model, options),
      ),
    )
  }

  /** As transformers.js has it. */
  left(session: InferenceSession): InferenceSession {
    return Object.assign(session, { config: this.config })
  }
}

/** Looks like a session of ONNX Runtime. */
export class PartSession implements ModelSession {
  /** transformers.js keeps dtype and device here. */
  config: unknown
  readonly #part: ModelPart
  readonly #run: (args: RunArguments) => Promise<InferenceSession.ReturnType>

  constructor(part: ModelPart, run: (args: RunArguments) => Promise<InferenceSession.ReturnType>) {
    this.config = part.config
    this.#part = part
    this.#run = run
  }

  get inputNames(): readonly string[] {
    return this.#part.host.signature.inputNames
  }

  get outputNames(): readonly string[] {
    return this.#part.host.signature.outputNames
  }

  get inputMetadata(): readonly InferenceSession.ValueMetadata[] {
    return this.#part.host.signature.inputMetadata
  }

  get outputMetadata(): readonly InferenceSession.ValueMetadata[] {
    return this.#part.host.signature.outputMetadata
  }

  run(...args: RunArguments): Promise<InferenceSession.ReturnType> {
    return this.#run(args)
  }

  release(): Promise<void> {
    return this.#part.release()
  }
}
