/**
 * `ModelPart`: a part of a model that is one session. It uses the session of transformers.js until an adapter has layers in it, and then a session
 * with branches. While the model is attached, `model.sessions` contains a `PartSession` for it.
 */
import { addHead, type Head, nameWithHead, type OnnxModel } from '@fourierft/onnx'
import type { ModuleNames, Ort } from '@fourierft/onnxruntime'
import { AdaptedGraph, NO_SLOTS, openSessions, SessionHost } from '@fourierft/onnxruntime/host'
import type { InferenceSession } from 'onnxruntime-common'
import type { ModelSession } from './library.js'
import { LOGITS_METADATA } from './missing-head.js'
import type { ModelFiles } from './model-files.js'

export interface PartOptions {
  readonly moduleNames: ModuleNames
  readonly native: 'auto' | boolean
  /** The head that graphs with adapters get, if the model's file has none. */
  readonly head: Head | undefined
}

export interface ModelPartInit {
  /** transformers.js' name of the session. */
  readonly name: string
  readonly session: InferenceSession
  /** The ONNX Runtime that created the session. */
  readonly ort: Ort
  readonly files: ModelFiles
  readonly options: PartOptions
}

export type RunArguments = Parameters<InferenceSession['run']>

export class ModelPart {
  readonly name: string
  readonly host: SessionHost
  /** The head that the file does not have. */
  readonly head: Head | undefined
  readonly #original: InferenceSession
  readonly #ort: Ort
  readonly #files: ModelFiles

  constructor({ name, session, ort, files, options: { moduleNames, native, head } }: ModelPartInit) {
    this.name = name
    this.head = head
    this.#original = session
    this.#ort = ort
    this.#files = files
    this.host = new SessionHost({
      graph: new AdaptedGraph(session, ort, NO_SLOTS),
      moduleNames,
      async sessions() {
        const { model, options: sessionOptions } = await files.sourceOf(name)
        const change = head && {
          edit: (opened: OnnxModel) => addHead(opened, head),
          rename: (module: string) => nameWithHead(head, module),
        }
        return openSessions(model, { ort, native, sessionOptions, change })
      },
      addedOutputs: head ? LOGITS_METADATA : [],
    })
  }

  /** dtype and device, which transformers.js stores in the session. */
  get config(): unknown {
    return (this.#original as ModelSession).config
  }

  /** Whether the session was closed elsewhere, such as by `dispose` of the model. */
  get isClosed(): boolean {
    try {
      this.host.checkLive()
      return false
    } catch {
      return true
    }
  }

  /** Is called by transformers.js when the model is disposed of. */
  release(): Promise<void> {
    return this.host.release({ problem: 'the model was disposed of', advice: 'load it again' })
  }

  /** Returns the original session, or a new one from the same file if it was released. */
  async restoreSession(): Promise<InferenceSession> {
    if (this.host.session === this.#original) return this.#original
    const { InferenceSession } = this.#ort
    // If the files are not found, this throws before a session is closed.
    const { model, options } = await this.#files.origin(this.name)
    return this.withConfig(
      await this.host.giveBack(() =>
        typeof model === 'string'
          ? InferenceSession.create(model, options)
          : InferenceSession.create(model, options),
      ),
    )
  }

  /** Stores transformers.js' dtype and device in a new session. */
  withConfig(session: InferenceSession): InferenceSession {
    return Object.assign(session, { config: this.config })
  }
}

/** Represents a part in `model.sessions`, with the interface of an ONNX Runtime session. */
export class PartSession implements ModelSession {
  /** transformers.js stores dtype and device here. */
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
