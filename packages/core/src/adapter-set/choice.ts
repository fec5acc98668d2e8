/** The adapters that one call applies. This value is fixed when the call starts, and passed to everything that the call runs. */

/** A loaded adapter and its scale. @typeParam P an adapter, matched to the model's layers by the host */
export interface Applied<P> {
  readonly adapter: P
  /** Factor on ΔW; 1 is ΔW as the file gives it. It does not apply to replaced layers (`modules_to_save`). */
  readonly scale: number
}

/** Adapters whose ΔW are added up, or one adapter (null: the base model) for each row or each of equal parts of the batch. */
export type Choice<P> =
  | { readonly added: readonly Applied<P>[] }
  | { readonly perRow: readonly (Applied<P> | null)[] }

/** The adapter of one row: its name, its name with another scale for this row, or null for the base model. */
export type RowAdapter = string | null | { readonly name: string; readonly scale: number }

/** Checks whether two choices apply the same adapters at the same scales, in the same order. */
export function isSameChoice<P>(first: Choice<P>, second: Choice<P>): boolean {
  const a: readonly (Applied<P> | null)[] = 'added' in first ? first.added : first.perRow
  const b: readonly (Applied<P> | null)[] = 'added' in second ? second.added : second.perRow
  return (
    'added' in first === 'added' in second &&
    a.length === b.length &&
    a.every((applied, i) => applied?.adapter === b[i]?.adapter && applied?.scale === b[i]?.scale)
  )
}
