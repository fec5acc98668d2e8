/**
 * Long work in short steps, so that one function serves two kinds of callers: those that want the result at once, and those that let the
 * event loop and an abort in between.
 */

/** Work that pauses wherever it yields; the result is what it returns. */
export type Steps<T> = Generator<void, T, void>

/** Does all of it now. */
export function atOnce<T>(steps: Steps<T>): T {
  for (;;) {
    const step = steps.next()
    if (step.done) return step.value
  }
}

/** Longer than a frame would be noticed. */
const LONGEST_MS = 12

/**
 * Does it in short pieces, each in a task of its own.
 *
 * @param signal ends it between two of them; the promise is rejected with its reason
 */
export async function piecewise<T>(steps: Steps<T>, signal: AbortSignal | undefined): Promise<T> {
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
