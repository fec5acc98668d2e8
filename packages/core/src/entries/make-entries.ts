/** Makes entries from the recipe in an adapter file or a configuration. */
import { FourierFTError } from '../errors.js'
import { bandPassEntries } from './band-pass.js'
import type { Entries, EntriesRecipe, Shape } from './entries.js'
import { uniformEntries } from './uniform.js'

/**
 * Draws the entries of a recipe for a shape.
 *
 * @throws {FourierFTError} `INVALID_OPTION` for an unknown sampler or an explicit recipe (use `explicitEntries`),
 *   and the errors of `uniformEntries` and `bandPassEntries`
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
