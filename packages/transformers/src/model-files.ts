/**
 * `ModelFiles`: the files of a model's sessions. In Node these are paths. In browsers they are bytes, which are read when they are needed, and not
 * kept in memory afterwards.
 */
import type { ModelSource } from '@fourierft/onnxruntime'
import type { PreTrainedModel } from '@huggingface/transformers'
import type { InferenceSession } from 'onnxruntime-common'
import { platform } from '#platform'
import { checkOrigin } from './check-origin.js'
import { findSessionOrigins, type ModelOrigin, type SessionOrigin, sessionsOf } from './library.js'

export class ModelFiles {
  readonly #model: PreTrainedModel
  readonly #sessions: ReadonlyMap<string, InferenceSession>
  readonly #modelOrigin: ModelOrigin
  #origins: Promise<ReadonlyMap<string, SessionOrigin>> | undefined

  constructor(model: PreTrainedModel, origin: ModelOrigin) {
    this.#model = model
    this.#sessions = sessionsOf(model)
    this.#modelOrigin = origin
  }

  /** Runs `work`, during which each file is read at most once. */
  async during<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } finally {
      const origins = await this.#origins?.catch(() => undefined)
      const arePaths = origins && [...origins.values()].every(({ model }) => typeof model === 'string')
      if (!arePaths) this.#origins = undefined
    }
  }

  /**
   * Returns the arguments from which transformers.js creates the session.
   *
   * @throws {FourierFTError} the errors of `findSessionOrigins`; `INVALID_OPTION` if the option `model` of `attach` is another model
   */
  async origin(session: string): Promise<SessionOrigin> {
    this.#origins ??= this.#findOrigins()
    return (await this.#origins).get(session) as SessionOrigin
  }

  /** Returns the model from which another session like this one can be created, and the options that transformers.js has chosen for it. */
  async sourceOf(
    session: string,
  ): Promise<{ readonly model: ModelSource; readonly options: SessionOrigin['options'] }> {
    const { model, options } = await this.origin(session)
    if (typeof model === 'string') return { model, options }
    const { externalData: _, ...others } = options
    return { model: () => this.#bytes(session), options: others }
  }

  /** @throws {FourierFTError} `IO_ERROR` */
  async read(session: string): Promise<Uint8Array> {
    return bytesOf(await this.origin(session))
  }

  async #findOrigins(): Promise<ReadonlyMap<string, SessionOrigin>> {
    const origins = await findSessionOrigins(this.#model, this.#sessions, this.#modelOrigin)
    // A recorded name is correct. A name from the user is checked before a session is closed.
    if (this.#modelOrigin.sessions) return origins
    for (const [name, session] of this.#sessions) {
      const origin = origins.get(name) as SessionOrigin
      checkOrigin(this.#modelOrigin.name, { name, session, origin, bytes: await bytesOf(origin) })
    }
    return origins
  }

  async #bytes(session: string) {
    const { options } = await this.origin(session)
    const bytes = await this.read(session)
    return { bytes, ...(options.externalData && { externalData: options.externalData }) }
  }
}

async function bytesOf({ model }: SessionOrigin): Promise<Uint8Array> {
  return typeof model === 'string' ? platform.readFile(model) : model
}
