/** `SharedGraph`: counts the calls that use a graph. The graph can still be opening. A call uses the same graph for all of its runs. */
import type { AdaptedGraph } from './adapted-graph.js'

export class SharedGraph {
  /** Rejects if the graph could not be opened. */
  readonly opened: Promise<AdaptedGraph>
  #graph: AdaptedGraph | undefined
  #calls = 0
  #onUnused: (() => void) | undefined

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

  /** Undefined until the graph is open. */
  get graph(): AdaptedGraph | undefined {
    return this.#graph
  }

  get isUsed(): boolean {
    return this.#calls > 0
  }

  /** Begins a call. At its end, the call has to `drop` the graph. */
  hold(): this {
    this.#calls++
    return this
  }

  /** Ends a call. */
  drop(): void {
    this.#calls--
    if (this.#calls === 0) this.#onUnused?.()
  }

  /** Releases the session after the last call. */
  async close(): Promise<void> {
    if (this.#calls > 0)
      await new Promise<void>((done) => {
        this.#onUnused = done
      })
    await this.closeNow()
  }

  /** Releases the session after the current runs, even if calls still use the graph. */
  async closeNow(): Promise<void> {
    const graph = this.#graph ?? (await this.opened.catch(() => undefined))
    await graph?.release()
  }
}
