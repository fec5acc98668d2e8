/**
 * The one cache of the fast paths: transform plans and workspaces, least recently used dropped first. Everything in it can be made
 * again from its key. All users are synchronous, so a workspace is never in two hands at once.
 */

/** More than the shapes of any one model; two plans and a workspace for each shape of a transformer block make about ten. */
const CAPACITY = 48

const plans = new Map<string, unknown>()

/** The plan of that key, made by `make` if it is not at hand. A key names its type as well: two kinds of plan never share one. */
export function cachedPlan<Plan>(key: string, make: () => Plan): Plan {
  const hit = plans.get(key)
  if (hit !== undefined) {
    plans.delete(key)
    plans.set(key, hit)
    return hit as Plan
  }
  const plan = make()
  plans.set(key, plan)
  if (plans.size > CAPACITY) {
    const oldest = plans.keys().next().value
    if (oldest !== undefined) plans.delete(oldest)
  }
  return plan
}

/** Drops all plans and workspaces; the next call makes what it needs anew. */
export function clearPlans(): void {
  plans.clear()
}
