/** Groups layers by their entries, so that work that depends only on the entries is done once for each group. */
import type { FloatArray, Layer } from '../adapter/layer.js'
import type { Entries } from '../entries/entries.js'
import { type FoldedEntries, foldEntries } from './folded-entries.js'

/** Layers with equal entries that apply to the same tokens. The weighted sum of their coefficients is applied once for all of them. */
export interface EntryGroup {
  readonly entries: Entries
  readonly folded: FoldedEntries
  /** Indices in the list of layers. */
  readonly layerIndices: readonly number[]
  /** `scale·coefficients = Σ α·c/(d1·d2)` over the layers; for a single layer these are its own coefficients. */
  readonly coefficients: FloatArray
  readonly scale: number
}

/** Makes the groups. @param rows if given, each token has one layer, so each layer becomes one group, in order */
export function groupByEntries(layers: readonly Layer[], rows: Int32Array | undefined): EntryGroup[] {
  const groups: number[][] = []
  layers.forEach(({ entries }, index) => {
    const group =
      rows === undefined ? groups.find(([first]) => equalEntries(layers[first].entries, entries)) : undefined
    if (group === undefined) groups.push([index])
    else group.push(index)
  })
  return groups.map((layerIndices) => {
    const { entries, coefficients, shape, scaling } = layers[layerIndices[0]]
    const group = { entries, folded: foldEntries(entries), layerIndices }
    const normalisation = shape[0] * shape[1]
    if (layerIndices.length === 1) return { ...group, coefficients, scale: scaling / normalisation }
    const sum = new Float64Array(entries.n)
    for (const index of layerIndices)
      addScaled(sum, layers[index].coefficients, layers[index].scaling / normalisation)
    return { ...group, coefficients: sum, scale: 1 }
  })
}

function equalEntries(a: Entries, b: Entries): boolean {
  if (a === b) return true
  if (a.n !== b.n) return false
  for (let l = 0; l < a.n; l++) if (a.rows[l] !== b.rows[l] || a.columns[l] !== b.columns[l]) return false
  return true
}

/** Adds `scale·source` to `target`. */
export function addScaled(target: FloatArray, source: FloatArray, scale: number): void {
  for (let l = 0; l < source.length; l++) target[l] += scale * source[l]
}
