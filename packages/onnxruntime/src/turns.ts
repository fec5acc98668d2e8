/**
 * On the web ONNX Runtime does one thing at a time: it makes a session, runs one, or frees one, whichever session it is. Each waits for
 * the one before it. Nothing here waits for a call, which may be many runs, so that a call that begins another one cannot hold itself up.
 */
import type { Ort } from './ort.js'

export type TakeTurn = <T>(work: () => Promise<T>) => Promise<T>

/** By the class of the sessions, which all copies of the other parts share. */
const known = new WeakMap<object, TakeTurn>()

/** @returns what does work in turn on the web, and at once elsewhere */
export function turnsOf({ InferenceSession, env }: Pick<Ort, 'InferenceSession' | 'env'>): TakeTurn {
  if (env.versions.web === undefined) return (work) => work()
  const takeTurn = known.get(InferenceSession) ?? inTurn()
  known.set(InferenceSession, takeTurn)
  return takeTurn
}

function inTurn(): TakeTurn {
  let last: Promise<unknown> = Promise.resolve()
  return (work) => {
    const result = last.then(work)
    last = result.catch(() => undefined)
    return result
  }
}
