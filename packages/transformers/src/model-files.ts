/**
 * The files of a model's sessions. Paths are kept; bytes, which is what there is in browsers, are read again whenever they are needed, and
 * forgotten when the work that needed them is done.
 */
import type { ModelSource } from '@fourierft/onnxruntime'
import type { PreTrainedModel } from '@huggingface/transformers'
import type { InferenceSession } from 'onnxruntime-common'
import { platform } from '#platform'
import { checkLocated } from './check-located.js'
import { locateSessions, type Origin, type SessionOrigin, sessionsOf } from './library.js'

export class ModelFiles {
  readonly #model: PreTrainedModel
  readonly #sessions: ReadonlyMap<string, InferenceSession>
  readonly #origin: Origin
  #located: Promise<ReadonlyMap<string, SessionOrigin>> | undefined

  constructor(model: PreTrainedModel, origin: Origin) {
    this.#model = model
    this.#sessions = sessionsOf(model)
    this.#origin = origin
  }

  /** While `work` runs each file is read once. */
  async during<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } finally {
      const located = await this.#located?.catch(() => undefined)
      const arePaths = located && [...located.values()].every(({ model }) => typeof model === 'string')
      if (!arePaths) this.#located = undefined
    }
  }

  /**
   * What transformers.js makes the session from.
   *
   * @throws {FourierFTError} what `locateSessions` throws; `INVALID_OPTION` where the user has named another model
   */
  async origin(session: string): Promise<SessionOrigin> {
    this.#located ??= this.#locate()
    return (await this.#located).get(session) as SessionOrigin
  }

  /** Of one session: what to make another from, and ONNX Runtime's options as transformers.js has chosen them. */
  async of(
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

  async #locate(): Promise<ReadonlyMap<string, SessionOrigin>> {
    const located = await locateSessions(this.#model, this.#sessions, this.#origin)
    // A name that was noted is right; one that the user gives is compared, before any session is closed for what it leads to.
    if (this.#origin.sessions) return located
    for (const [name, session] of this.#sessions) {
      const origin = located.get(name) as SessionOrigin
      checkLocated(this.#origin.name, { name, session, origin, bytes: await bytesOf(origin) })
    }
    return located
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
