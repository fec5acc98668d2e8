/**
 * A cache that all adapters share, with one `Entries` object for equal entries. Entries are drawn once, and layers with the same object share
 * the transform of their input. The cache holds only weak references.
 */
import { entriesDigest } from '../entries/digest.js'
import type { Entries, EntriesRecipe, Shape } from '../entries/entries.js'
import { uniformEntries } from '../entries/uniform.js'

/** The recipe of the entries of a PEFT file. */
export type UniformRecipe = Extract<EntriesRecipe, { sampler: 'uniform' }>

const cache = new Map<string, WeakRef<Entries>>()

/** Returns the entries of a uniform recipe, and draws them on the first call. Throws the errors of `uniformEntries`. */
export function sharedUniformEntries(shape: Shape, recipe: UniformRecipe): Entries {
  const key = `${shape.join('x')} ${recipeKey(recipe)}`
  const found = cache.get(key)?.deref()
  if (found) return found
  const entries = sharedEntries(uniformEntries({ ...recipe, shape }))
  remember(key, entries)
  return entries
}

/** Returns the cached object with the same positions, shape and recipe, or else `entries`. */
export function sharedEntries(entries: Entries): Entries {
  const key = `${entries.shape.join('x')} ${recipeKey(entries.recipe)} ${entriesDigest(entries)}`
  const found = cache.get(key)?.deref()
  if (found) return found
  remember(key, entries)
  return entries
}

function recipeKey(recipe: EntriesRecipe): string {
  return Object.entries(recipe).sort().flat().join(' ')
}

function remember(key: string, entries: Entries): void {
  for (const [other, reference] of cache) if (!reference.deref()) cache.delete(other)
  cache.set(key, new WeakRef(entries))
}
