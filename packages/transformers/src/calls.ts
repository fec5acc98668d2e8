/**
 * Calls of a model, and changes of its sessions: a change waits for the calls that were begun before it, and calls that are begun
 * after it wait for the change. A call is a whole `generate` or a whole pipeline, not one run of a session.
 */
export class Calls {
  readonly #begun = new Set<Promise<unknown>>()
  #lastChange: Promise<unknown> | undefined

  /** Whether a change is under way, or waits. */
  get isChanging(): boolean {
    return this.#lastChange !== undefined
  }

  /** At once where no change is due. */
  begin<T>(call: () => Promise<T>): Promise<T> {
    const result = this.#lastChange ? this.#lastChange.then(call) : call()
    const settled: Promise<unknown> = result
      .catch(() => undefined)
      .then(() => {
        this.#begun.delete(settled)
      })
    this.#begun.add(settled)
    return result
  }

  change<T>(work: () => Promise<T>): Promise<T> {
    const before = Promise.all([this.#lastChange, ...this.#begun])
    const result = before.then(work)
    const change = result
      .catch(() => undefined)
      .then(() => {
        if (this.#lastChange === change) this.#lastChange = undefined
      })
    this.#lastChange = change
    return result
  }

  /** When the calls that were begun are done. */
  async idle(): Promise<void> {
    await Promise.all(this.#begun)
  }
}
