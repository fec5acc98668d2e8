/** `SessionRuns`: the runs of one session in ONNX Runtime's queue. It releases the session after the runs in progress. */
import type { InferenceSession } from 'onnxruntime-common'
import type { Ort } from './ort.js'
import { type Enqueue, runtimeQueue } from './runtime-queue.js'

export class SessionRuns {
  readonly #session: InferenceSession
  readonly #enqueue: Enqueue
  #running = 0
  #onIdle: (() => void) | undefined
  #released: Promise<void> | undefined

  constructor(session: InferenceSession, ort: Ort) {
    this.#session = session
    this.#enqueue = runtimeQueue(ort)
  }

  /** Whether `release` has been called. */
  get isReleased(): boolean {
    return this.#released !== undefined
  }

  /** Runs the work, which uses the session, in ONNX Runtime's queue. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    this.#running++
    try {
      return await this.#enqueue(work)
    } finally {
      this.#running--
      if (this.#running === 0) this.#onIdle?.()
    }
  }

  /** Releases the session after its current runs. */
  release(): Promise<void> {
    this.#released ??= this.#release()
    return this.#released
  }

  async #release(): Promise<void> {
    if (this.#running > 0)
      await new Promise<void>((done) => {
        this.#onIdle = done
      })
    await this.#enqueue(() => this.#session.release())
  }
}
