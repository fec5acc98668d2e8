/**
 * Tables that turn the adapter's branch into two dense and two grouped matrix products with a gather between them, for runtimes that
 * multiply matrices well and have no good FFT. The branch then needs no scatter, no complex numbers and no transform primitive.
 *
 * A real vector of length `d = A·B` is read as `[A, B]`, index `q = B·q₁ + q₂`. With `e(t) = exp(2πi·t)`,
 * `e(q·k/d) = e(q₁·k/A)·e(q₂·k/d)`, and the first factor depends only on the *group* `a = k mod A`. So `A`-point transforms of the columns
 * come first; the rest of frequency `k` is one row `e(q₂·k/d)` over `B` numbers, which includes the twiddle factors. Only frequencies of
 * the entries are computed. Data are real, so groups above `A/2` are conjugates of those below.
 *
 * Tokens are the last dimension throughout (`x` is `[d2, T]`, `y` is `[d1, T]`, both row-major). The branch is
 *
 *     x  [d2, T]               reshape  [A, B·T]                 (A, B, G, m of `analysis`)
 *     Y = w1 · x               [2G, A] · [A, B·T]                reshape  [G, 2B, T]
 *     Z = m2 · Y               [G, 2m, 2B] · [G, 2B, T]          reshape  [G·2m, T]
 *     H[i] = Z[gather[i]] · signs[i] · c[coefficient[i]] · α/(d1·d2)      [G'·2m', T]
 *                                                                (A', B', G', m' of `synthesis`)
 *     V = n1 · H               [G', 2B', 2m'] · [G', 2m', T]     reshape  [2G', B'·T]
 *     Δy = w1i · V             [A', 2G'] · [2G', B'·T]           reshape  [d1, T]
 *
 * `∂L/∂x` is the same computation with the tables of the transposed adapter, `g = ∂L/∂y` instead of `x`, and the same `c`. For `∂L/∂c`,
 * take `Z` of the forward tables for `x` and `Z̃` of the transposed tables for `g`:
 *
 *     ∂L/∂c_l = α/(d1·d2) · Σ_t Z̃[realRow̃_l]·Z[realRow_l] − sigñ_l·sign_l · Z̃[imaginaryRow̃_l]·Z[imaginaryRow_l]
 *
 * Tables are computed from exact angles in float64 and rounded once to float32.
 */
import type { Entries } from '../entries/entries.js'
import { checkLengths } from './check-size.js'
import { halfLength } from './real-transform.js'
import { type UnitCircle, unitCircle } from './unit-circle.js'

/** Tables that transform real vectors into their values at the frequencies of the entries. */
export interface GroupedAnalysis {
  /** `d = outer · inner` */
  readonly length: number
  /** `A` */
  readonly outer: number
  /** `B` */
  readonly inner: number
  /** `G = ⌊A/2⌋ + 1` */
  readonly groups: number
  /** `m`, the most frequencies in any group; a group with fewer has rows of zeros in `m2`. */
  readonly slots: number
  /** `[2G, A]`: row `2a` is `cos(2π·a·q₁/A)`, row `2a + 1` is `sin(2π·a·q₁/A)`. */
  readonly w1: Float32Array
  /** `[G, 2m, 2B]`: for the frequency in slot s, row s gives the real part from `[Re Y | Im Y]`, and row `m + s` the imaginary part. */
  readonly m2: Float32Array
  /** `[n]`: the row of `Z` (`[G·2m, T]`) with `Re X̂[k_l]`. */
  readonly realRow: Int32Array
  /** `[n]`: the row of `Z` with `signs_l · Im X̂[k_l]`. */
  readonly imaginaryRow: Int32Array
  /** `[n]`: −1 if the conjugate frequency is used, otherwise 1. */
  readonly signs: Float32Array
}

/** Tables that transform the products with the coefficients, one row for each entry, back into real vectors. */
export interface GroupedSynthesis {
  readonly length: number
  readonly outer: number
  readonly inner: number
  readonly groups: number
  /** `m'`, the most entries in any group. */
  readonly slots: number
  /** `[G', 2B', 2m']`: for the entry in slot s, column s maps the real part to `[Re V | Im V]`, and column `m' + s` the imaginary part. */
  readonly n1: Float32Array
  /** `[A', 2G']`: column `2a` is `cos(2π·a·p₁/A')`, column `2a + 1` is `−sin(2π·a·p₁/A')`. */
  readonly w1i: Float32Array
}

export interface GroupedTransform {
  readonly analysis: GroupedAnalysis
  readonly synthesis: GroupedSynthesis
  /** `[G'·2m']`: the row of `Z` for each row of `H`; 0 for padding. */
  readonly gather: Int32Array
  /** `[G'·2m']`: the entry `l` whose coefficient multiplies the row; 0 for padding. */
  readonly coefficient: Int32Array
  /** `[G'·2m']`: ±1; 0 for padding. */
  readonly signs: Float32Array
}

/**
 * Makes the tables for one set of entries. `transposed` swaps rows and columns: the analysis has length d1, the synthesis length d2. Any shape
 * works: `A` is the divisor of `d` that needs the fewest multiplications (1 or d itself if d is prime).
 *
 * @throws {FourierFTError} `UNSUPPORTED` for more than 2¹⁹ rows or columns
 */
export function groupedTransform(
  entries: Entries,
  direction: 'forward' | 'transposed' = 'forward',
): GroupedTransform {
  checkLengths(entries.shape)
  const [d1, d2] = entries.shape
  const [inputLength, outputLength] = direction === 'forward' ? [d2, d1] : [d1, d2]
  const [inputs, outputs] =
    direction === 'forward' ? [entries.columns, entries.rows] : [entries.rows, entries.columns]
  const analysis = makeAnalysis(inputLength, inputs)
  const grouping = cheapestGrouping(outputLength, outputs, false)
  const synthesis = makeSynthesis(grouping)

  const { groups, slots } = synthesis
  const gather = new Int32Array(groups * 2 * slots)
  const coefficient = new Int32Array(groups * 2 * slots)
  const signs = new Float32Array(groups * 2 * slots)
  for (let l = 0; l < entries.n; l++) {
    const real = grouping.group[l] * 2 * slots + grouping.slot[l]
    const imaginary = real + slots
    gather[real] = analysis.realRow[l]
    gather[imaginary] = analysis.imaginaryRow[l]
    coefficient[real] = l
    coefficient[imaginary] = l
    signs[real] = 1
    signs[imaginary] = analysis.signs[l] * grouping.sign[l]
  }
  return { analysis, synthesis, gather, coefficient, signs }
}

function makeAnalysis(length: number, used: Uint32Array): GroupedAnalysis {
  const grouping = cheapestGrouping(length, used, true)
  const { outer, inner, groups, slots, frequency, group, slot, sign } = grouping
  const n = used.length
  const circle = unitCircle(length)

  const w1 = new Float32Array(2 * groups * outer)
  const first = unitCircle(outer)
  for (let a = 0; a < groups; a++) {
    for (let q = 0; q < outer; q++) {
      w1[2 * a * outer + q] = first.cos[(a * q) % outer]
      w1[(2 * a + 1) * outer + q] = first.sin[(a * q) % outer]
    }
  }

  const m2 = new Float32Array(groups * 2 * slots * 2 * inner)
  const realRow = new Int32Array(n)
  const imaginaryRow = new Int32Array(n)
  for (let l = 0; l < n; l++) {
    realRow[l] = group[l] * 2 * slots + slot[l]
    imaginaryRow[l] = realRow[l] + slots
    const real = realRow[l] * 2 * inner
    const imaginary = imaginaryRow[l] * 2 * inner
    for (let q = 0; q < inner; q++) {
      const { cos, sin } = pointAt(circle, q * frequency[l], length)
      m2[real + q] = cos
      m2[real + inner + q] = -sin
      m2[imaginary + q] = sin
      m2[imaginary + inner + q] = cos
    }
  }
  return { length, outer, inner, groups, slots, w1, m2, realRow, imaginaryRow, signs: sign }
}

function makeSynthesis({
  length,
  outer,
  inner,
  groups,
  slots,
  frequency,
  group,
  slot,
}: Grouping): GroupedSynthesis {
  const circle = unitCircle(length)
  const n1 = new Float32Array(groups * 2 * inner * 2 * slots)
  for (let l = 0; l < frequency.length; l++) {
    for (let p = 0; p < inner; p++) {
      const { cos, sin } = pointAt(circle, p * frequency[l], length)
      const real = (group[l] * 2 * inner + p) * 2 * slots + slot[l]
      const imaginary = real + inner * 2 * slots
      n1[real] = cos
      n1[real + slots] = -sin
      n1[imaginary] = sin
      n1[imaginary + slots] = cos
    }
  }
  const w1i = new Float32Array(outer * 2 * groups)
  const last = unitCircle(outer)
  for (let p = 0; p < outer; p++) {
    for (let a = 0; a < groups; a++) {
      w1i[p * 2 * groups + 2 * a] = last.cos[(a * p) % outer]
      w1i[p * 2 * groups + 2 * a + 1] = -last.sin[(a * p) % outer]
    }
  }
  return { length, outer, inner, groups, slots, n1, w1i }
}

/** The group and slot of each entry's frequency, for one factorisation `length = outer · inner`. */
interface Grouping {
  readonly length: number
  readonly outer: number
  readonly inner: number
  readonly groups: number
  readonly slots: number
  /** `[n]`: the frequency or its conjugate, whichever is in a group `0 … ⌊A/2⌋`. */
  readonly frequency: Int32Array
  readonly group: Int32Array
  readonly slot: Int32Array
  /** `[n]`: −1 if the conjugate is used, otherwise 1. */
  readonly sign: Float32Array
}

/** Returns the grouping with the fewest multiplications for one token. With `shared`, entries with the same frequency share a slot. */
function cheapestGrouping(length: number, used: Uint32Array, shared: boolean): Grouping {
  let best = groupBy(1, length, used, shared)
  for (let outer = 2; outer <= length; outer++) {
    if (length % outer !== 0) continue
    const grouping = groupBy(outer, length, used, shared)
    if (multiplications(grouping) < multiplications(best)) best = grouping
  }
  return best
}

/** Counts the multiplications for one token: the transforms of the columns, then the products within the groups. */
function multiplications({ length, inner, groups, slots }: Grouping): number {
  return 2 * groups * length + groups * 2 * slots * 2 * inner
}

function groupBy(outer: number, length: number, used: Uint32Array, shared: boolean): Grouping {
  const n = used.length
  const groups = halfLength(outer)
  const frequency = new Int32Array(n)
  const group = new Int32Array(n)
  const slot = new Int32Array(n)
  const sign = new Float32Array(n)
  const filled = new Int32Array(groups)
  const slotOf = new Map<number, number>()
  for (let l = 0; l < n; l++) {
    const k = used[l]
    const residue = k % outer
    // Groups 0 and A/2 contain both a frequency and its conjugate: the lower one is used.
    const isSelfConjugate = residue === 0 || 2 * residue === outer
    const isConjugate = isSelfConjugate ? 2 * k > length : 2 * residue > outer
    frequency[l] = isConjugate ? length - k : k
    group[l] = frequency[l] % outer
    sign[l] = isConjugate ? -1 : 1
    const known = shared ? slotOf.get(frequency[l]) : undefined
    slot[l] = known ?? filled[group[l]]++
    if (known === undefined) slotOf.set(frequency[l], slot[l])
  }
  const slots = filled.reduce((most, count) => Math.max(most, count), 0)
  return { length, outer, inner: length / outer, groups, slots, frequency, group, slot, sign }
}

function pointAt({ cos, sin }: UnitCircle, turns: number, denominator: number): { cos: number; sin: number } {
  const m = turns % denominator
  return { cos: cos[m], sin: sin[m] }
}
