/**
 * Long work in short steps. The same generator serves callers that need the result at once, and callers that let the event loop run
 * between the steps and can abort the work.
 */

/** Work that can pause at each `yield`; it returns the result. */
export type Steps<T> = Generator<void, T, void>

/** Does all the work without a pause. */
export function runNow<T>(steps: Steps<T>): T {
  for (;;) {
    const step = steps.next()
    if (step.done) return step.value
  }
}

/** Less than the time of a frame, so that a page stays responsive. */
const MAX_PIECE_MS = 12

/**
 * Does the work in short pieces, each in its own task of the event loop.
 *
 * @param signal ends the work between two pieces; the promise is rejected with its reason
 */
export async function runInPieces<T>(steps: Steps<T>, signal: AbortSignal | undefined): Promise<T> {
  let pieceStart = performance.now()
  for (;;) {
    const step = steps.next()
    if (step.done) return step.value
    if (performance.now() - pieceStart < MAX_PIECE_MS) continue
    await new Promise((resolve) => setTimeout(resolve))
    signal?.throwIfAborted()
    pieceStart = performance.now()
  }
}
