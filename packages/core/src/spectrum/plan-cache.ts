/**
 * The cache of the fast paths: transform plans and workspaces. It drops the least recently used ones first. Each can be made again from
 * its key. All callers are synchronous, so no two of them use a workspace at the same time.
 */

/** More than one model needs: two plans and a workspace for each shape of a transformer block are about ten. */
const CAPACITY = 48

const plans = new Map<string, unknown>()

/** Returns the plan or workspace with this key. `make` makes it if it is not in the cache. Values of different types need different keys. */
export function cachedPlan<T>(key: string, make: () => T): T {
  const hit = plans.get(key)
  if (hit !== undefined) {
    plans.delete(key)
    plans.set(key, hit)
    return hit as T
  }
  const plan = make()
  plans.set(key, plan)
  if (plans.size > CAPACITY) {
    const oldest = plans.keys().next().value
    if (oldest !== undefined) plans.delete(oldest)
  }
  return plan
}

/** Drops all plans and workspaces. Later calls make them again. */
export function clearPlans(): void {
  plans.clear()
}
