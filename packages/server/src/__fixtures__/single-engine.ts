/** An engine that runs one call at a time on a real pipeline. With it the APIs are tested without batches. */
import { unlessAborted } from '@fourierft/core'
import { fileURLToPath } from 'node:url'
import { attach } from '@fourierft/transformers'
import { env, LogLevel, pipeline } from '@huggingface/transformers'
import { adapterNotFound } from '../adapter-name.js'
import type { CallOptions, Engine, ListedAdapter, Pipe } from '../engine.js'
import { ServerError } from '../errors.js'

/** Real exports of tiny models, each with `adapter-a` and `adapter-b`. */
export const MODELS = fileURLToPath(new URL('../../../transformers/test/__fixtures__/', import.meta.url))

export interface SingleEngine extends Engine {
  /** Calls that have begun and not ended. */
  readonly running: number
  /** Fulfils when no call is running. */
  idle(): Promise<unknown>
}

/** @param root the folder of the model; others than `MODELS` have no adapters */
export async function openSingleEngine(
  task: Parameters<typeof pipeline>[0],
  model: string,
  root = MODELS,
): Promise<SingleEngine> {
  env.localModelPath = root
  env.allowRemoteModels = false
  env.logLevel = LogLevel.ERROR
  const pipe = (await pipeline(task, model, { dtype: 'fp32' })) as unknown as Pipe
  const adapters = await attach(pipe as unknown as Parameters<typeof attach>[0], { native: false })
  const known = new Set(root === MODELS ? ['adapter-a', 'adapter-b'] : [])
  for (const name of known) await adapters.loadAdapter(`${MODELS}${model}/${name}`, { name })
  let last: Promise<unknown> = Promise.resolve()
  let running = 0
  let isClosed = false

  const call = async <T>(adapter: string | null, work: (pipe: Pipe) => Promise<T>, { signal }: CallOptions) => {
    if (isClosed) throw new ServerError('shutting_down', 'the server is shutting down')
    if (adapter !== null && !known.has(adapter)) throw adapterNotFound(adapter)
    const before = last
    const run = async () => {
      await before
      signal.throwIfAborted()
      if (adapter === null) adapters.disableAdapters()
      else {
        adapters.enableAdapters()
        adapters.setAdapter(adapter)
      }
      running++
      try {
        return await work(pipe)
      } finally {
        running--
      }
    }
    const result = run()
    last = result.catch(() => {})
    return unlessAborted(result, signal)
  }
  const listed = (name: string): ListedAdapter => ({ name, modified: undefined, isResident: true, isPinned: false })

  return {
    model,
    task: pipe.task,
    pipe,
    created: Date.now(),
    joining: 'single',
    get isReady() {
      return !isClosed
    },
    get running() {
      return running
    },
    idle: () => last,
    signature: undefined,
    call,
    run: () => Promise.reject(new ServerError('unsupported_task', 'the tensors of this model cannot be fed')),
    prepare: async (adapter) => {
      if (!known.has(adapter)) throw adapterNotFound(adapter)
    },
    list: async () => Array.from(known, listed),
    load: async (name, source) => {
      await adapters.loadAdapter(source, { name })
      known.add(name)
    },
    unload: async (name) => {
      if (!known.delete(name)) throw adapterNotFound(name)
      adapters.deleteAdapter(name)
    },
    close: async () => {
      isClosed = true
      await last
      await pipe.model.dispose()
    },
  }
}
