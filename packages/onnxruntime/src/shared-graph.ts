/** A graph that several calls use: open, or about to be. It is closed after the last of them, so that a call keeps it through all of its runs. */
import type { AdaptedGraph } from './adapted-graph.js'

export class SharedGraph {
  /** @throws what kept it from opening */
  readonly opened: Promise<AdaptedGraph>
  /** Undefined until it is open. */
  #graph: AdaptedGraph | undefined
  #calls = 0
  #unused: (() => void) | undefined

  constructor(graph: AdaptedGraph | Promise<AdaptedGraph>) {
    this.opened = Promise.resolve(graph)
    if (!(graph instanceof Promise)) this.#graph = graph
    else
      graph.then(
        (open) => {
          this.#graph = open
        },
        () => undefined,
      )
  }

  get graph(): AdaptedGraph | undefined {
    return this.#graph
  }

  get isUsed(): boolean {
    return this.#calls > 0
  }

  /** For a call, which drops it when it ends. */
  hold(): this {
    this.#calls++
    return this
  }

  drop(): void {
    this.#calls--
    if (this.#calls === 0) this.#unused?.()
  }

  /** Frees the session after the last call. */
  async close(): Promise<void> {
    if (this.#calls > 0)
      await new Promise<void>((done) => {
        this.#unused = done
      })
    await this.closeNow()
  }

  /** Frees the session after the runs that are under way; the calls go without it then. */
  async closeNow(): Promise<void> {
    const graph = this.#graph ?? (await this.opened.catch(() => undefined))
    await graph?.release()
  }
}
