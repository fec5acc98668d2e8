/**
 * Long work in short steps. One function serves two kinds of callers: those that want the result at once, and those that let the event
 * loop run between the steps and can abort.
 */

/** Work that can pause at each `yield`; it returns the result. */
export type Steps<T> = Generator<void, T, void>

/** Does all the work now. */
export function runNow<T>(steps: Steps<T>): T {
  for (;;) {
    const step = steps.next()
    if (step.done) return step.value
  }
}

/** Below the time of a frame, so that a page stays smooth. */
const LONGEST_MS = 12

/**
 * Does the work in short pieces, each in its own task of the event loop.
 *
 * @param signal ends the work between two pieces; the promise is rejected with its reason
 */
export async function runInPieces<T>(steps: Steps<T>, signal: AbortSignal | undefined): Promise<T> {
  let since = performance.now()
  for (;;) {
    const step = steps.next()
    if (step.done) return step.value
    if (performance.now() - since < LONGEST_MS) continue
    await new Promise((resolve) => setTimeout(resolve))
    signal?.throwIfAborted()
    since = performance.now()
  }
}
