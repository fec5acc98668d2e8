/** Entries from the recipe that an adapter file or a configuration names. */
import { FourierFTError } from '../errors.js'
import { bandPassEntries } from './band-pass.js'
import type { Entries, EntriesRecipe, Shape } from './entries.js'
import { uniformEntries } from './uniform.js'

/**
 * The entries that a recipe gives for a shape.
 *
 * @throws {FourierFTError} `INVALID_OPTION` for a recipe that does not make entries (explicit ones are data:
 *   `explicitEntries`), and whatever `uniformEntries` or `bandPassEntries` throw
 */
export function makeEntries(shape: Shape, recipe: Exclude<EntriesRecipe, { sampler: 'explicit' }>): Entries {
  const { sampler } = recipe
  switch (sampler) {
    case 'uniform':
      return uniformEntries({ shape, ...recipe })
    case 'bandpass':
      return bandPassEntries({ shape, ...recipe })
    default:
      throw new FourierFTError(
        'INVALID_OPTION',
        `sampler: expected 'uniform' or 'bandpass'; received '${String(sampler satisfies never)}'`,
        { option: 'sampler', expected: ['uniform', 'bandpass'], received: sampler },
      )
  }
}
