/** Runs an asynchronous function for each item, a bounded number of them at a time. */
import { setMaxListeners } from 'node:events'

/**
 * Returns the results in the order of the items. The first failure rejects at once, aborts the others, and no further item begins.
 *
 * @param work gets a signal that is aborted with `signal` and after a failure
 */
export async function mapLimited<Item, Result>(
  items: readonly Item[],
  limit: number,
  work: (item: Item, index: number, signal: AbortSignal) => Promise<Result>,
  signal: AbortSignal,
): Promise<Result[]> {
  const failed = new AbortController()
  const either = AbortSignal.any([signal, failed.signal])
  // Each item can listen to it. Node warns beyond ten.
  setMaxListeners(0, either)
  const results = new Array<Result>(items.length)
  const rest = items.entries()
  const worker = async () => {
    try {
      for (const [index, item] of rest) {
        either.throwIfAborted()
        results[index] = await work(item, index, either)
      }
    } catch (error) {
      failed.abort(error)
      throw error
    }
  }
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker))
  return results
}
