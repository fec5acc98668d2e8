/**
 * `Batcher`: runs the sessions of a model, one run at a time. Runs that wait for the model are joined into batches: runs of one group of adapters and
 * of one part of the model, whose feeds can be joined. The oldest waiting run is always in the next batch.
 */
import type { ModelPart, RunArguments } from '@fourierft/transformers/host'
import type { InferenceSession } from 'onnxruntime-common'
import type { RunJoiner } from './join-runs.js'

type Results = InferenceSession.ReturnType

/** A run of one call. @typeParam A an adapter */
export interface WaitingRun<A> {
  readonly part: ModelPart
  /** Runs of different groups are never joined. */
  readonly group: object
  /** Undefined if runs of this part cannot be joined. */
  readonly joiner: RunJoiner | undefined
  /** The sizes of the heads. Runs in which they differ are never joined. */
  readonly heads: string
  readonly args: RunArguments
  /** Null is the base model. */
  readonly adapter: A | null
  readonly signal: AbortSignal
}

export interface BatcherInit<A> {
  /** Runs a part with an adapter for each row, or for each of equal parts of the batch. */
  readonly run: (run: WaitingRun<A>, perRow: readonly (A | null)[], args: RunArguments) => Promise<Results>
  /** The most rows of a batch. */
  readonly maxBatch: number
  /** The most rows times length of a batch of several runs. */
  readonly maxBatchTokens: number
  /** Returns the number of calls in progress. Those without a waiting run may submit one soon. */
  readonly expected: () => number
  /** Is called after each batch. */
  readonly onBatch?: (batch: BatchFacts) => void
}

export interface BatchFacts {
  readonly runs: number
  readonly rows: number
  /** The length of the longest run; 0 if lengths are not padded. */
  readonly length: number
  /** The positions that are not padding. */
  readonly filled: number
  readonly seconds: number
}

interface Entry<A> extends WaitingRun<A> {
  readonly key: string | undefined
  readonly rows: number
  readonly length: number
  readonly resolve: (results: Results) => void
  readonly reject: (error: unknown) => void
}

/** The most turns of the event loop for which a batch waits for runs that are expected. */
const MAX_TURNS = 4

export class Batcher<A> {
  readonly #init: BatcherInit<A>
  #waiting: Entry<A>[] = []
  #isRunning = false

  constructor(init: BatcherInit<A>) {
    this.#init = init
  }

  /** The number of runs that wait. */
  get waiting(): number {
    return this.#waiting.length
  }

  /**
   * Runs a session in a batch. If the signal is aborted before the run has begun, the run is removed, and the promise stays pending: a rejection would
   * make transformers.js log the feeds.
   */
  run(run: WaitingRun<A>): Promise<Results> {
    return new Promise((resolve, reject) => {
      if (run.signal.aborted) return
      const [feeds, ...others] = run.args
      const isPlain = others.every((argument) => argument === undefined)
      const { joiner } = run
      const key = isPlain ? joiner?.keyOf(feeds) : undefined
      const rows = joiner?.rowsOf(feeds) ?? 1
      this.#waiting.push({ ...run, key, rows, length: joiner?.lengthOf(feeds) ?? 0, resolve, reject })
      this.#wake()
    })
  }

  get #isIncomplete(): boolean {
    return this.#waiting.length > 0 && this.#waiting.length < this.#init.expected()
  }

  #wake(): void {
    if (this.#isRunning) return
    this.#isRunning = true
    void this.#work()
  }

  async #work(): Promise<void> {
    try {
      for (;;) {
        // Calls that received results submit their next runs, and sockets are read, before the next batch is chosen.
        for (let turn = 0; turn === 0 || (turn < MAX_TURNS && this.#isIncomplete); turn++)
          await new Promise((done) => setImmediate(done))
        const batch = this.#take()
        if (batch.length === 0) return
        await this.#runBatch(batch)
      }
    } finally {
      this.#isRunning = false
    }
  }

  /** Takes the oldest run, and others that can be joined with it: those of the most similar lengths first. */
  #take(): Entry<A>[] {
    this.#waiting = this.#waiting.filter(({ signal }) => !signal.aborted)
    const [oldest] = this.#waiting
    if (oldest === undefined) return []
    const batch = [oldest]
    let { rows } = oldest
    let used = oldest.rows * oldest.length
    let longest = oldest.length
    if (oldest.key !== undefined) {
      const maxShare = oldest.joiner?.plan.padding?.maxShare ?? 0
      const distance = ({ length }: Entry<A>) => Math.abs(length - oldest.length)
      const candidates = this.#waiting
        .filter((entry) => entry !== oldest && canJoin(entry, oldest))
        .sort((a, b) => distance(a) - distance(b))
      for (const entry of candidates) {
        if (rows + entry.rows > this.#init.maxBatch) continue
        const length = Math.max(longest, entry.length)
        const tokens = (rows + entry.rows) * length
        const filled = used + entry.rows * entry.length
        if (tokens > this.#init.maxBatchTokens || tokens - filled > maxShare * tokens) continue
        batch.push(entry)
        rows += entry.rows
        used = filled
        longest = length
      }
    }
    const taken = new Set(batch)
    this.#waiting = this.#waiting.filter((entry) => !taken.has(entry))
    return batch
  }

  async #runBatch(batch: readonly Entry<A>[]): Promise<void> {
    const start = performance.now()
    const [first, ...others] = batch as [Entry<A>, ...Entry<A>[]]
    if (others.length === 0) await settle(first, () => this.#init.run(first, [first.adapter], first.args))
    else {
      const joined = await this.#runJoined(batch).catch(() => undefined)
      // One bad input makes a whole batch fail. Alone, only its own run fails.
      if (joined === undefined)
        for (const entry of batch)
          await settle(entry, () => this.#init.run(entry, [entry.adapter], entry.args))
      else for (const [i, entry] of batch.entries()) entry.resolve(joined[i] as Results)
    }
    this.#init.onBatch?.({
      runs: batch.length,
      rows: sum(batch, ({ rows }) => rows),
      length: Math.max(...batch.map(({ length }) => length)),
      filled: sum(batch, ({ rows, length }) => rows * length),
      seconds: (performance.now() - start) / 1000,
    })
  }

  async #runJoined(batch: readonly Entry<A>[]): Promise<Results[]> {
    const [first] = batch as [Entry<A>]
    const joiner = first.joiner as RunJoiner
    const feeds = batch.map(({ args }) => args[0])
    const perRow = batch.flatMap(({ adapter, rows }) => new Array<A | null>(rows).fill(adapter))
    const args = [joiner.join(feeds)] as unknown as RunArguments
    return joiner.divide(await this.#init.run(first, perRow, args), feeds)
  }
}

function canJoin<A>(a: Entry<A>, b: Entry<A>): boolean {
  return a.key === b.key && a.part === b.part && a.group === b.group && a.heads === b.heads
}

async function settle<A>(entry: Entry<A>, run: () => Promise<Results>): Promise<void> {
  try {
    entry.resolve(await run())
  } catch (error) {
    entry.reject(error)
  }
}

function sum<T>(values: readonly T[], numberOf: (value: T) => number): number {
  return values.reduce((total, value) => total + numberOf(value), 0)
}
