/**
 * On the web, ONNX Runtime does one thing at a time: it creates a session, runs one or releases one, whichever session it is. The queue makes
 * each of these wait for the one before it. Calls are not queued: a call may be many runs, and may start other calls, which would then wait
 * for it forever.
 */
import type { Ort } from './ort.js'

export type Enqueue = <T>(work: () => Promise<T>) => Promise<T>

/** By the class of the sessions, which several `Ort` objects can share. */
const queues = new WeakMap<object, Enqueue>()

/** @returns a function that runs work one after the other on the web, and at once elsewhere */
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
