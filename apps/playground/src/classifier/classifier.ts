/** The page's end of the worker: a call is a message, and its result is the reply with the same number. */
import type { Calls, Failure, Reply, Request, Step } from './calls.js'

/** An error of the worker. */
export class ClassifierError extends Error {
  override readonly name = 'ClassifierError'
  /** The position of the example, from 0; undefined if the error is about none. */
  readonly row: number | undefined

  constructor({ message, row }: Failure) {
    // People count from 1, as the list does.
    super(row === undefined ? message : message.replace(/^.*?row \d+ \(from 0\)/, `Example ${row + 1}`))
    this.row = row
  }
}

interface Pending {
  readonly resolve: (value: never) => void
  readonly reject: (error: Error) => void
}

export class Classifier {
  readonly #worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' })
  readonly #pending = new Map<number, Pending>()
  #count = 0

  /** @param onStep called after each step of a training */
  constructor(onStep: (step: Step) => void) {
    this.#worker.addEventListener('message', ({ data }: MessageEvent<Reply>) => {
      if ('step' in data) return onStep(data.step)
      const { resolve, reject } = this.#pending.get(data.id) ?? {}
      this.#pending.delete(data.id)
      if ('failure' in data) reject?.(new ClassifierError(data.failure))
      else resolve?.(data.value as never)
    })
    this.#worker.addEventListener('error', ({ message }) => {
      for (const { reject } of this.#pending.values())
        reject(new ClassifierError({ message: message || 'the worker does not start; reload the page' }))
      this.#pending.clear()
    })
  }

  call<Name extends keyof Calls>(name: Name, ...args: Parameters<Calls[Name]>): ReturnType<Calls[Name]> {
    const id = ++this.#count
    const result = new Promise((resolve, reject) => this.#pending.set(id, { resolve, reject }))
    this.#worker.postMessage({ id, name, args } satisfies Request<Name>)
    return result as ReturnType<Calls[Name]>
  }
}
