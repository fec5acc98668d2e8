/**
 * One `Entries` object for equal entries, whichever adapter asks. Sampling is paid once, and layers that share the object share the
 * transform of their input. The cache holds nothing alive.
 */
import { entriesDigest } from '../entries/digest.js'
import type { Entries, EntriesRecipe, Shape } from '../entries/entries.js'
import { uniformEntries } from '../entries/uniform.js'

/** How the entries of a PEFT file come about. */
export type UniformRecipe = Extract<EntriesRecipe, { sampler: 'uniform' }>

const known = new Map<string, WeakRef<Entries>>()

/** Entries of a uniform recipe, drawn on the first call. Throws as `uniformEntries` does. */
export function sharedUniformEntries(shape: Shape, recipe: UniformRecipe): Entries {
  const key = `${shape.join('x')} ${recipeKey(recipe)}`
  const found = known.get(key)?.deref()
  if (found) return found
  const entries = sharedEntries(uniformEntries({ ...recipe, shape }))
  remember(key, entries)
  return entries
}

/** `entries`, or the object with the same positions, shape and recipe that is in use already. */
export function sharedEntries(entries: Entries): Entries {
  const key = `${entries.shape.join('x')} ${recipeKey(entries.recipe)} ${entriesDigest(entries)}`
  const found = known.get(key)?.deref()
  if (found) return found
  remember(key, entries)
  return entries
}

function recipeKey(recipe: EntriesRecipe): string {
  return Object.entries(recipe).sort().flat().join(' ')
}

function remember(key: string, entries: Entries): void {
  for (const [other, reference] of known) if (!reference.deref()) known.delete(other)
  known.set(key, new WeakRef(entries))
}
