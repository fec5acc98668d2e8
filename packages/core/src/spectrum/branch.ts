/** Layers in the form that transforms need: what is the same for several of them is done once. */
import type { FloatArray, Layer } from '../adapter/layer.js'
import type { Entries } from '../entries/entries.js'
import { type FoldedEntries, foldEntries } from './folded-entries.js'

/** Layers of equal entries that act on the same tokens: their coefficients are added first, and the branch runs once for all. */
export interface Branch {
  readonly folded: FoldedEntries
  /** `Σ_a α_a·c_a/(d1·d2)` */
  readonly weights: Float64Array
  readonly entries: Entries
  /** Positions in the list of layers. */
  readonly members: number[]
}

/** With `rows` each layer is a branch of its own, in order. */
export function makeBranches(layers: readonly Layer[], rows: Int32Array | undefined): Branch[] {
  const branches: Branch[] = []
  layers.forEach(({ entries, shape, coefficients, scaling }, a) => {
    let branch =
      rows === undefined ? branches.find((other) => equalEntries(other.entries, entries)) : undefined
    if (branch === undefined) {
      branch = { folded: foldEntries(entries), weights: new Float64Array(entries.n), entries, members: [] }
      branches.push(branch)
    }
    branch.members.push(a)
    addScaled(branch.weights, coefficients, scaling / (shape[0] * shape[1]))
  })
  return branches
}

function equalEntries(a: Entries, b: Entries): boolean {
  if (a === b) return true
  if (a.n !== b.n) return false
  for (let l = 0; l < a.n; l++) if (a.rows[l] !== b.rows[l] || a.columns[l] !== b.columns[l]) return false
  return true
}

/** `target += scale·source` */
export function addScaled(target: FloatArray, source: FloatArray, scale: number): void {
  for (let l = 0; l < source.length; l++) target[l] += scale * source[l]
}
