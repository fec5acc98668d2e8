/**
 * On the web, ONNX Runtime can only do one operation at a time, for all sessions together: create a session, run one, or release one. The queue makes
 * each operation wait for the one before it. Whole calls of a model are not queued: a call can consist of many runs and can start other calls, which
 * would wait for the first call forever.
 */
import type { Ort } from './ort.js'

export type Enqueue = <T>(work: () => Promise<T>) => Promise<T>

/** One queue for each `InferenceSession` class, which several `Ort` objects can share. */
const queues = new WeakMap<object, Enqueue>()

/** Returns a function that runs work: on the web one after the other, elsewhere immediately. */
export function runtimeQueue({ InferenceSession, env }: Pick<Ort, 'InferenceSession' | 'env'>): Enqueue {
  if (env.versions.web === undefined) return (work) => work()
  const enqueue = queues.get(InferenceSession) ?? newQueue()
  queues.set(InferenceSession, enqueue)
  return enqueue
}

function newQueue(): Enqueue {
  let last: Promise<unknown> = Promise.resolve()
  return (work) => {
    const result = last.then(work)
    last = result.catch(() => undefined)
    return result
  }
}
