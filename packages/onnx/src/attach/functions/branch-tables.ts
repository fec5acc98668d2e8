/**
 * The constant tensors of one set of entries, as the nodes `FourierFT` and `FourierFTGrad` read them: the entries for the native operators,
 * and the tables of `groupedTransform` for the portable functions. Layers with the same entries share the tensors, and both nodes share the
 * tensors that both read.
 */
import { type Entries, type GroupedTransform, groupedTransform } from '@fourierft/core'
import type { NewTensor } from '../../model/encode.js'
import { DataType } from '../../model/schema.js'

/** The inputs of a `FourierFT` node after `x`, `base`, `coefficients` and `rows`, in this order. */
export const TABLE_NAMES = ['entries', 'w1', 'm2', 'gather', 'coefficient', 'factors', 'n1', 'w1i'] as const

export type TableName = (typeof TABLE_NAMES)[number]

/** The inputs of a `FourierFTGrad` node after `x`, `grad_y`, `base`, `coefficients` and `rows`, in this order. */
export const GRADIENT_TABLE_NAMES = [
  'entries',
  'w1',
  'm2',
  'transposed_w1',
  'transposed_m2',
  'transposed_gather',
  'transposed_coefficient',
  'transposed_factors',
  'transposed_n1',
  'transposed_w1i',
  'partner',
  'partner_factors',
  'real',
  'imaginary',
] as const

export type GradientTableName = (typeof GRADIENT_TABLE_NAMES)[number]

type UnnamedTensor = Omit<NewTensor, 'name'>

type NamedTensor = NewTensor & { readonly name: string }

/**
 * @param prefix of the tensors' names: `prefix + 'w1'`
 * @returns the tensors in the order of {@link TABLE_NAMES}: entries `[2, n]`, w1 `[2G, A]`, m2 `[G, 2m, 2B]`, gather `[P]`, coefficient
 *   `[P]`, factors `[P, 1]` (signs times `1/(d1·d2)`), n1 `[G', 2B', 2m']`, w1i `[A', 2G']`, with `P = G'·2m'`
 */
export function branchTables(entries: Entries, prefix: string): NamedTensor[] {
  const transform = groupedTransform(entries)
  const tables: Record<TableName, UnnamedTensor> = {
    entries: positions(entries),
    ...analysisTables(transform),
    ...synthesisTables(transform, entries),
  }
  return TABLE_NAMES.map((name) => ({ name: prefix + name, ...tables[name] }))
}

/**
 * @param prefix as in {@link branchTables}; tensors of the same name are equal
 * @returns the tensors in the order of {@link GRADIENT_TABLE_NAMES}. The transposed adapter's products with the coefficients have P rows,
 *   computed from the spectrum of `grad_y`. `partner` `[P]` is the row of the spectrum of x for each of them, and `partner_factors` `[P, 1]`
 *   its sign in ∂L/∂c, times `1/(d1·d2)`. `real` and `imaginary` `[n]` are the two of the P rows that belong to each entry
 */
export function gradientTables(entries: Entries, prefix: string): NamedTensor[] {
  const forward = groupedTransform(entries)
  const transposed = groupedTransform(entries, 'transposed')
  const transposedTables = { ...analysisTables(transposed), ...synthesisTables(transposed, entries) }
  const tables: Record<GradientTableName, UnnamedTensor> = {
    entries: positions(entries),
    ...analysisTables(forward),
    transposed_w1: transposedTables.w1,
    transposed_m2: transposedTables.m2,
    transposed_gather: transposedTables.gather,
    transposed_coefficient: transposedTables.coefficient,
    transposed_factors: transposedTables.factors,
    transposed_n1: transposedTables.n1,
    transposed_w1i: transposedTables.w1i,
    ...partnerTables(forward, transposed, entries),
  }
  return GRADIENT_TABLE_NAMES.map((name) => ({ name: prefix + name, ...tables[name] }))
}

function positions({ n, rows, columns }: Entries): UnnamedTensor {
  return integers([2, n], [...rows, ...columns])
}

function analysisTables({ analysis: { groups, outer, inner, slots, w1, m2 } }: GroupedTransform) {
  return { w1: floats([2 * groups, outer], w1), m2: floats([groups, 2 * slots, 2 * inner], m2) }
}

function synthesisTables(
  { synthesis: { groups, outer, inner, slots, n1, w1i }, gather, coefficient, signs }: GroupedTransform,
  { shape: [d1, d2] }: Entries,
) {
  const rows = gather.length
  const factors = Float32Array.from(signs, (sign) => sign / (d1 * d2))
  return {
    gather: integers([rows], gather),
    coefficient: integers([rows], coefficient),
    factors: floats([rows, 1], factors),
    n1: floats([groups, 2 * inner, 2 * slots], n1),
    w1i: floats([outer, 2 * groups], w1i),
  }
}

/** Returns the tables for ∂L/∂c_l, as `groupedTransform` documents it, in the order of the transposed adapter's products. */
function partnerTables(forward: GroupedTransform, transposed: GroupedTransform, entries: Entries) {
  const { realRow, imaginaryRow, signs: columnSigns } = forward.analysis
  const { signs: rowSigns } = transposed.analysis
  const { slots } = transposed.synthesis
  const { coefficient, signs } = transposed
  const [d1, d2] = entries.shape
  const rowCount = coefficient.length
  const partner = new Int32Array(rowCount)
  const factors = new Float32Array(rowCount)
  const real = new Int32Array(entries.n)
  const imaginary = new Int32Array(entries.n)
  for (let p = 0; p < rowCount; p++) {
    const isPadding = signs[p] === 0
    if (isPadding) continue
    const l = coefficient[p]
    // A group holds the real parts of its slots, then the imaginary parts.
    const isReal = p % (2 * slots) < slots
    const row = isReal ? realRow : imaginaryRow
    const sign = isReal ? 1 : -rowSigns[l] * columnSigns[l]
    partner[p] = row[l]
    factors[p] = sign / (d1 * d2)
    const rows = isReal ? real : imaginary
    rows[l] = p
  }
  return {
    partner: integers([rowCount], partner),
    partner_factors: floats([rowCount, 1], factors),
    real: integers([entries.n], real),
    imaginary: integers([entries.n], imaginary),
  }
}

function floats(dims: readonly number[], values: Float32Array): UnnamedTensor {
  const data = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
  return { dims, dataType: DataType.float, data }
}

function integers(dims: readonly number[], values: ArrayLike<number>): UnnamedTensor {
  const data = BigInt64Array.from({ length: values.length }, (_, i) => BigInt(values[i]))
  return { dims, dataType: DataType.int64, data: new Uint8Array(data.buffer) }
}
