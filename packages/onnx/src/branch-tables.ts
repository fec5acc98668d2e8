/**
 * The constant tensors of one set of entries, as a `FourierFT` node takes them: the entries for the native operator, and the tables of
 * `groupedTransform` for the portable function of the same name. Layers that share their entries share them.
 */
import { type Entries, groupedTransform } from '@fourierft/core'
import type { NewTensor } from './encode.js'
import { DataType } from './schema.js'

/** What follows `x`, `base`, `coefficients` and `rows` among the inputs of a `FourierFT` node, in this order. */
export const TABLE_NAMES = ['entries', 'w1', 'm2', 'gather', 'coefficient', 'factors', 'n1', 'w1i'] as const

export type TableName = (typeof TABLE_NAMES)[number]

/**
 * @param prefix goes before the table's name: `prefix + 'w1'`
 * @returns the tensors in the order of {@link TABLE_NAMES}: entries `[2, n]`, w1 `[2G, A]`, m2 `[G, 2m, 2B]`, gather `[P]`, coefficient
 *   `[P]`, factors `[P, 1]` (signs times `1/(d1·d2)`), n1 `[G', 2B', 2m']`, w1i `[A', 2G']`, with `P = G'·2m'`
 */
export function branchTables(entries: Entries, prefix: string): (NewTensor & { readonly name: string })[] {
  const { analysis, synthesis, gather, coefficient, signs } = groupedTransform(entries)
  const [d1, d2] = entries.shape
  const rows = gather.length
  const tables: Record<TableName, Omit<NewTensor, 'name'>> = {
    entries: integers([2, entries.n], [...entries.rows, ...entries.columns]),
    w1: floats([2 * analysis.groups, analysis.outer], analysis.w1),
    m2: floats([analysis.groups, 2 * analysis.slots, 2 * analysis.inner], analysis.m2),
    gather: integers([rows], gather),
    coefficient: integers([rows], coefficient),
    factors: floats(
      [rows, 1],
      Float32Array.from(signs, (sign) => sign / (d1 * d2)),
    ),
    n1: floats([synthesis.groups, 2 * synthesis.inner, 2 * synthesis.slots], synthesis.n1),
    w1i: floats([synthesis.outer, 2 * synthesis.groups], synthesis.w1i),
  }
  return TABLE_NAMES.map((name) => ({ name: prefix + name, ...tables[name] }))
}

function floats(dims: readonly number[], values: Float32Array): Omit<NewTensor, 'name'> {
  const data = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
  return { dims, dataType: DataType.float, data }
}

function integers(dims: readonly number[], values: ArrayLike<number>): Omit<NewTensor, 'name'> {
  const data = BigInt64Array.from({ length: values.length }, (_, i) => BigInt(values[i] as number))
  return { dims, dataType: DataType.int64, data: new Uint8Array(data.buffer) }
}
