/** Layers in the form that transforms need: what is the same for several of them is done once. */
import type { FloatArray, Layer } from '../adapter/layer.js'
import type { Entries } from '../entries/entries.js'
import { type FoldedEntries, foldEntries } from './folded-entries.js'

/** Layers of equal entries that act on the same tokens: their coefficients are added first, and the branch runs once for all. */
export interface Branch {
  readonly entries: Entries
  readonly folded: FoldedEntries
  /** Positions in the list of layers. */
  readonly members: readonly number[]
  /** With `scale`: `scale·weights = Σ_a α_a·c_a/(d1·d2)`. Of a single layer these are its coefficients themselves. */
  readonly weights: FloatArray
  readonly scale: number
}

/** With `rows` each layer is a branch of its own, in order. */
export function makeBranches(layers: readonly Layer[], rows: Int32Array | undefined): Branch[] {
  const groups: number[][] = []
  layers.forEach(({ entries }, a) => {
    const group =
      rows === undefined ? groups.find(([first]) => equalEntries(layers[first].entries, entries)) : undefined
    if (group === undefined) groups.push([a])
    else group.push(a)
  })
  return groups.map((members) => {
    const { entries, coefficients, shape, scaling } = layers[members[0]]
    const branch = { entries, folded: foldEntries(entries), members }
    const normalisation = shape[0] * shape[1]
    if (members.length === 1) return { ...branch, weights: coefficients, scale: scaling / normalisation }
    const weights = new Float64Array(entries.n)
    for (const a of members) addScaled(weights, layers[a].coefficients, layers[a].scaling / normalisation)
    return { ...branch, weights, scale: 1 }
  })
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
