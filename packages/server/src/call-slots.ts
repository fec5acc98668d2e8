/**
 * `CallSlots`: bounds the calls of a model. A call is admitted, prepares what it needs, and waits for a slot to run, first come, first served. Beyond the bound,
 * calls are refused.
 */
import { ServerError } from './errors.js'

export interface CallSlotsInit {
  /** The most calls that prepare, wait or run. */
  readonly maxCalls: number
  /** The most calls that run. */
  readonly maxRunning: number
}

/** Weight of the newest call in the mean duration. */
const NEWEST = 0.05

export class CallSlots {
  readonly #init: CallSlotsInit
  #calls = 0
  #running = 0
  readonly #waiting: (() => void)[] = []
  /** Mean seconds between the ends of calls while calls wait. */
  #seconds = 0.05
  #onIdle: (() => void) | undefined

  constructor(init: CallSlotsInit) {
    this.#init = init
  }

  /** The calls that prepare or run. */
  get active(): number {
    return this.#calls - this.#waiting.length
  }

  /** The calls that wait for a slot. */
  get waiting(): number {
    return this.#waiting.length
  }

  /**
   * Counts a call until it ends.
   *
   * @throws {ServerError} `queue_full`
   */
  async admit<T>(work: () => Promise<T>): Promise<T> {
    if (this.#calls >= this.#init.maxCalls)
      throw new ServerError(
        'queue_full',
        `${this.#calls} requests wait for the model or run; no more are accepted`,
        { retryAfter: Math.min(60, Math.max(1, Math.ceil(this.#calls * this.#seconds))) },
      )
    this.#calls++
    try {
      return await work()
    } finally {
      this.#calls--
      if (this.#calls === 0) this.#onIdle?.()
    }
  }

  /**
   * Runs an admitted call when it has a slot.
   *
   * @throws the signal's reason if it is aborted while the call waits
   */
  async run<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    // A call that waited gets the slot of the call that ended.
    if (this.#running < this.#init.maxRunning) this.#running++
    else await this.#turn(signal)
    const start = performance.now()
    try {
      return await work()
    } finally {
      const seconds = (performance.now() - start) / 1000 / this.#running
      this.#seconds += NEWEST * (seconds - this.#seconds)
      const next = this.#waiting.shift()
      if (next) next()
      else this.#running--
    }
  }

  /** Waits until all calls have ended, at most for some time. */
  async close(milliseconds: number): Promise<void> {
    if (this.#calls === 0) return
    let timer: NodeJS.Timeout | undefined
    await new Promise<void>((done) => {
      this.#onIdle = done
      timer = setTimeout(done, milliseconds)
    })
    clearTimeout(timer)
  }

  #turn(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason)
      const begin = () => {
        signal.removeEventListener('abort', abort)
        resolve()
      }
      const abort = () => {
        this.#waiting.splice(this.#waiting.indexOf(begin), 1)
        reject(signal.reason)
      }
      this.#waiting.push(begin)
      signal.addEventListener('abort', abort, { once: true })
    })
  }
}
