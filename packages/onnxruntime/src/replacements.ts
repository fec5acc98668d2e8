/** The layers with which the adapters of a call replace one layer of the model (`modulesToSave`): each once, and which of them each row uses. */
import { type Choice, FourierFTError } from '@fourierft/core'
import type { ApplicableAdapter, ReplacedModule } from './session-adapter.js'

/** Replacements of one layer. All have the same number of output features. */
export interface Replacements {
  readonly stacked: readonly Replacement[]
  /** The index into `stacked` of each row's replacement, −1 for the layer of the model; a single 0 if it is the same for all rows. */
  readonly rows: readonly number[]
}

interface Replacement {
  readonly adapter: ApplicableAdapter
  readonly replaced: ReplacedModule
}

/**
 * Returns the replacements of a layer in a call.
 *
 * @param key of the layer
 * @param module its name, for messages
 * @throws {FourierFTError} `UNSUPPORTED` if rows have different numbers of output features
 */
export function replacementsOf(choice: Choice<ApplicableAdapter>, key: string, module: string): Replacements {
  const stacked: Replacement[] = []
  const indices = new Map<ApplicableAdapter, number>()
  for (const applied of 'added' in choice ? choice.added : choice.perRow) {
    const replaced = applied?.adapter.replacedModules.get(key)
    if (!applied || !replaced || indices.has(applied.adapter)) continue
    indices.set(applied.adapter, stacked.length)
    stacked.push({ adapter: applied.adapter, replaced })
  }
  if ('added' in choice) return { stacked, rows: [0] }
  const rows = choice.perRow.map((row) => (row && indices.get(row.adapter)) ?? -1)
  if (new Set(rows).size === 1) return { stacked, rows: [0] }
  checkWidths(stacked, rows, module)
  return { stacked, rows }
}

function checkWidths(stacked: readonly Replacement[], rows: readonly number[], module: string): void {
  const [first, ...others] = stacked
  if (!first) return
  const widthOf = ({ replaced }: Replacement) => replaced.weight.length / replaced.inFeatures
  const width = widthOf(first)
  const other = others.find((replacement) => widthOf(replacement) !== width)
  const advice = 'run their rows in separate batches'
  if (other)
    throw new FourierFTError(
      'UNSUPPORTED',
      `adapters: adapters '${first.adapter.name}' and '${other.adapter.name}' replace module ${module} (modulesToSave) with layers of ${width} and ${widthOf(other)} output features, which cannot share a batch`,
      { advice, option: 'adapters', module, received: [first.adapter.name, other.adapter.name] },
    )
  if (first.replaced.isResized && rows.includes(-1))
    throw new FourierFTError(
      'UNSUPPORTED',
      `adapters: adapter '${first.adapter.name}' replaces module ${module} (modulesToSave) with a layer of another size, and other rows of the batch use the model's own layer`,
      { advice, option: 'adapters', module, received: first.adapter.name },
    )
}
