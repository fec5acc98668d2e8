/**
 * The `spectral` strategy: transforms the activations, never the weight. The portable form consists of two dense and two grouped matrix
 * products with a gather between them; the tables come from `core`, which documents the equations. Tokens are the last dimension.
 *
 * @see `groupedTransform` of `@fourierft/core`
 */
import {
  type Entries,
  type GroupedAnalysis,
  type GroupedSynthesis,
  type GroupedTransform,
  groupedTransform,
} from '@fourierft/core'
import {
  gather,
  matMul,
  mul,
  reshape,
  sub,
  sum,
  type Tensor,
  type Tensor2D,
  tensor,
  tensor1d,
  transpose,
  unstack,
} from '@tensorflow/tfjs-core'
import { withGradient } from '../ops/with-gradient.js'
import type { TableCache } from '../table-cache.js'
import { javaScriptSpectral, keepsTensorsInJavaScript } from './javascript-memory.js'
import { coefficientsPerToken, type StrategyInput } from './strategy-function.js'
import { isTensorflowBackend, tensorflowSpectral } from './tensorflow-spectral.js'

export function spectral(input: StrategyInput): Tensor2D {
  if (keepsTensorsInJavaScript()) return javaScriptSpectral(input)
  return isTensorflowBackend() ? tensorflowSpectral(input) : portableSpectral(input)
}

/** Computes Δy with operators that every backend has. */
export function portableSpectral({ x, c: unexpanded, rows, entries, tables }: StrategyInput): Tensor2D {
  const c = coefficientsPerToken({ c: unexpanded, rows })
  return withGradient(
    [x, c],
    () => {
      const forward = transformOf(entries, 'forward', tables)
      const spectrum = analyse(x, forward)
      return { value: synthesise(spectrum, c, forward), saved: [spectrum, c] }
    },
    (gradient, saved) => {
      const [spectrum, c] = saved as [Tensor2D, Tensor]
      const transposed = transformOf(entries, 'transposed', tables)
      const gradientSpectrum = analyse(gradient as Tensor2D, transposed)
      return [
        synthesise(gradientSpectrum, c, transposed),
        coefficientGradient(
          spectrum,
          gradientSpectrum,
          c.rank === 1,
          transformOf(entries, 'forward', tables),
          transposed,
        ),
      ]
    },
  ) as Tensor2D
}

type Direction = 'forward' | 'transposed'

/** The sizes that activations are reshaped to. */
interface Sizes {
  readonly analysis: Pick<GroupedAnalysis, 'outer' | 'inner' | 'groups' | 'slots'>
  readonly synthesis: Pick<GroupedSynthesis, 'outer' | 'inner' | 'groups' | 'slots' | 'length'>
}

/** One direction of the transform: its sizes, and its tables as tensors. */
interface Transform {
  readonly sizes: Sizes
  readonly table: (name: keyof typeof TABLES) => Tensor
}

const TABLES = {
  w1: ({ analysis: { w1, groups, outer } }) => tensor(w1, [2 * groups, outer]),
  m2: ({ analysis: { m2, groups, slots, inner } }) => tensor(m2, [groups, 2 * slots, 2 * inner]),
  n1: ({ synthesis: { n1, groups, slots, inner } }) => tensor(n1, [groups, 2 * inner, 2 * slots]),
  w1i: ({ synthesis: { w1i, groups, outer } }) => tensor(w1i, [outer, 2 * groups]),
  gather: (transform) => tensor1d(transform.gather, 'int32'),
  coefficient: ({ coefficient }) => tensor1d(coefficient, 'int32'),
  signs: ({ signs }) => tensor1d(signs),
  /** Rows of `Z` in the order of the entries: the real parts, then the imaginary ones. */
  rows: ({ analysis: { realRow, imaginaryRow } }) =>
    tensor1d(Int32Array.of(...realRow, ...imaginaryRow), 'int32'),
  /** The signs of those rows, `[2n]`. */
  rowSigns: ({ analysis }) => tensor1d(Float32Array.of(...analysis.signs.map(() => 1), ...analysis.signs)),
} as const satisfies Record<string, (transform: GroupedTransform) => Tensor>

/** Caches the sizes for each set of entries, but not the arrays of the tables, which `TableCache` holds as tensors. */
const sizesOf = { forward: new WeakMap<Entries, Sizes>(), transposed: new WeakMap<Entries, Sizes>() }

function transformOf(entries: Entries, direction: Direction, tables: TableCache): Transform {
  let transform: GroupedTransform | undefined
  const make = () => {
    transform ??= groupedTransform(entries, direction)
    return transform
  }
  let sizes = sizesOf[direction].get(entries)
  if (sizes === undefined) {
    const { analysis, synthesis } = make()
    const size = ({ outer, inner, groups, slots, length }: GroupedAnalysis | GroupedSynthesis) => ({
      outer,
      inner,
      groups,
      slots,
      length,
    })
    sizes = { analysis: size(analysis), synthesis: size(synthesis) }
    sizesOf[direction].set(entries, sizes)
  }
  const table = (name: keyof typeof TABLES) =>
    tables.table(entries, `spectral/${direction}/${name}`, () => TABLES[name](make()))
  return { sizes, table }
}

/** Computes `Z` `[G·2m, T]`: real and imaginary parts of the spectra of `x` `[T, d]` at the frequencies that the entries use. */
function analyse(x: Tensor2D, { sizes: { analysis }, table }: Transform): Tensor2D {
  const { outer, inner, groups, slots } = analysis
  const tokens = x.shape[0]
  const columns = reshape(transpose(x), [outer, inner * tokens])
  const groupSpectra = reshape(matMul(table('w1'), columns), [groups, 2 * inner, tokens])
  return reshape(matMul(table('m2'), groupSpectra), [groups * 2 * slots, tokens]) as Tensor2D
}

/** Computes the output `[T, d']` from `Z`: gathers its rows in the order of the entries and multiplies them by the coefficients. */
function synthesise(spectrum: Tensor2D, c: Tensor, { sizes: { synthesis }, table }: Transform): Tensor2D {
  const { inner, groups, slots, length } = synthesis
  const tokens = spectrum.shape[1]
  const width = groups * 2 * slots
  const weights =
    c.rank === 1
      ? reshape(mul(gather(c, table('coefficient')), table('signs')), [width, 1])
      : mul(gather(transpose(c), table('coefficient')), reshape(table('signs'), [width, 1]))
  const products = reshape(mul(gather(spectrum, table('gather')), weights), [groups, 2 * slots, tokens])
  const columns = reshape(matMul(table('n1'), products), [2 * groups, inner * tokens])
  return transpose(reshape(matMul(table('w1i'), columns), [length, tokens])) as Tensor2D
}

/**
 * Computes `∂L/∂c_l = Σ_t Z̃[realRow̃_l]·Z[realRow_l] − sigñ_l·sign_l · Z̃[imaginaryRow̃_l]·Z[imaginaryRow_l]`: `[n]`, or without the sum over the
 * tokens `[T, n]`.
 */
function coefficientGradient(
  spectrum: Tensor2D,
  gradientSpectrum: Tensor2D,
  isSummed: boolean,
  forward: Transform,
  transposed: Transform,
): Tensor {
  const products = mul(
    gather(spectrum, forward.table('rows')),
    gather(gradientSpectrum, transposed.table('rows')),
  )
  const signs = mul(forward.table('rowSigns'), transposed.table('rowSigns'))
  const [width, tokens] = products.shape as [number, number]
  const n = width / 2
  const halves = isSummed
    ? reshape(mul(sum(products, 1), signs), [2, n])
    : reshape(mul(products, reshape(signs, [width, 1])), [2, n, tokens])
  const [real, imaginary] = unstack(halves) as [Tensor, Tensor]
  return transpose(sub(real, imaginary))
}
