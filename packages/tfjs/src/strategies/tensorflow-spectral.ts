/**
 * `spectral` on TensorFlow (tfjs-node, tfjs-node-gpu): TensorFlow's `RFFT` and `IRFFT` (cuFFT on a GPU) around a gather, a product with
 * the coefficients and a sum. The operators are called by name, because TensorFlow.js has no gradients for them; the gradient here
 * consists of the same operators.
 *
 * With `X̂ = RFFT(x)`, `Δy[p] = Re Σ_l c_l · conj(X̂[k_l]) · e^{2πi·p·j_l/d1}`: the `IRFFT` of the products, after products with equal
 * `j` are added up. Frequencies above `d/2` are the conjugates of those below.
 */
import type { Entries } from '@fourierft/core'
import {
  backend,
  expandDims,
  gather,
  getBackend,
  mul,
  reshape,
  sum,
  type Tensor,
  type Tensor2D,
  tensor1d,
  tensor2d,
  transpose,
} from '@tensorflow/tfjs-core'
import { withGradient } from '../ops/with-gradient.js'
import { coefficientsPerToken, type StrategyInput } from './strategy-function.js'
import { contributions, inSlots } from './tensorflow-spectral-sums.js'

/** The parts of tfjs-node's backend that are not in TensorFlow.js's interface. */
interface NodeBackend {
  readonly isUsingGpuDevice: boolean
  readonly binding: Readonly<Record<'TF_ATTR_TYPE' | TensorflowType, number>>
  executeSingleOutput(name: string, attributes: unknown[], inputs: Tensor[]): Tensor
}

type TensorflowType = 'TF_FLOAT' | 'TF_INT32' | 'TF_COMPLEX64'

/** Returns whether the current backend is TensorFlow's, on any device. */
export function isTensorflowBackend(): boolean {
  return getBackend() === 'tensorflow'
}

/** Returns whether TensorFlow's device is a GPU. Call it only if `isTensorflowBackend`. */
export function isTensorflowOnGpu(): boolean {
  return nodeBackend().isUsingGpuDevice
}

/**
 * The way to add up rows of equal frequency. `segments`: by TensorFlow's `SegmentSum`, which adds in order on a CPU, but with atomic
 * additions in any order on a GPU. `slots`: by two sums of a few rows each, which repeat their results bit for bit.
 */
export type Summation = 'segments' | 'slots'

/**
 * Computes Δy `[T, d1]`. The backward pass computes the spectrum of `x` again, which takes about a tenth of the branch's time. Keeping the
 * spectrum would take as much memory as `x` for each adapted layer.
 */
export function tensorflowSpectral(
  { x, c: unexpanded, rows, entries, tables }: StrategyInput,
  summation: Summation = isTensorflowOnGpu() ? 'slots' : 'segments',
): Tensor2D {
  const c = coefficientsPerToken({ c: unexpanded, rows })
  const table = (name: string, make: () => Tensor) =>
    tables.table(entries, `tensorflow/${summation}/${name}`, make)
  const apply = (spectrum: Tensor2D, c: Tensor, direction: Direction) => {
    const add = summation === 'segments' ? addBySegments : addBySlots
    return inverse(
      add(spectrum, c, entries, direction, table),
      entries.shape[direction === 'forward' ? 0 : 1],
    )
  }
  return withGradient(
    [x, c],
    () => ({ value: apply(halfSpectrum(x), c, 'forward'), saved: [x, c] }),
    (gradient, saved) => {
      const [x, c] = saved as [Tensor, Tensor]
      const gradientSpectrum = halfSpectrum(gradient)
      return [
        apply(gradientSpectrum, c, 'adjoint'),
        coefficientGradient(halfSpectrum(x), gradientSpectrum, c.rank === 1, entries, table),
      ]
    },
  ) as Tensor2D
}

/** `adjoint` swaps `j` and `k`. */
type Direction = 'forward' | 'adjoint'

type Table = (name: string, make: () => Tensor) => Tensor

/**
 * Computes the real FFT of the rows of `x` `[T, d]`, with tokens last: `[2F, T]`, `F = ⌊d/2⌋ + 1`. Row `2k` is the real part of frequency `k`,
 * row `2k + 1` the imaginary part.
 */
function halfSpectrum(x: Tensor): Tensor2D {
  const [tokens, d] = x.shape as [number, number]
  const spectrum = operator('RFFT', FFT_TYPES, [x, tensor1d([d], 'int32')])
  const parts = operator('Bitcast', { T: 'TF_COMPLEX64', type: 'TF_FLOAT' }, [spectrum])
  return transpose(reshape(parts, [tokens, -1])) as Tensor2D
}

/** Inverts `halfSpectrum`: `[T, d]` from `[2F, T]`. */
function inverse(spectrum: Tensor, d: number): Tensor {
  const [rows, tokens] = spectrum.shape as [number, number]
  const parts = reshape(transpose(spectrum), [tokens, rows / 2, 2])
  const complex = operator('Bitcast', { T: 'TF_FLOAT', type: 'TF_COMPLEX64' }, [parts])
  return operator('IRFFT', FFT_TYPES, [complex, tensor1d([d], 'int32')])
}

function addBySegments(
  spectrum: Tensor,
  c: Tensor,
  entries: Entries,
  direction: Direction,
  table: Table,
): Tensor {
  const index = (name: 'source' | 'entry' | 'target') =>
    table(`${direction}/${name}`, () => tensor1d(contributions(entries, direction)[name], 'int32'))
  const factors = table(`${direction}/factors`, () => tensor1d(contributions(entries, direction).factors))
  const products = mul(gather(spectrum, index('source')), weightsOf(c, index('entry'), factors))
  return operator('SegmentSum', { T: 'TF_FLOAT', Tindices: 'TF_INT32' }, [products, index('target')])
}

function addBySlots(
  spectrum: Tensor,
  c: Tensor,
  entries: Entries,
  direction: Direction,
  table: Table,
): Tensor {
  const slots = () => inSlots(contributions(entries, direction))
  const index = (name: 'source' | 'entry') =>
    table(`${direction}/${name}`, () => {
      const { parts, width } = slots()
      return tensor2d(parts[name], [parts[name].length / width, width], 'int32')
    })
  const factors = table(`${direction}/factors`, () => {
    const { parts, width } = slots()
    return tensor2d(parts.factors, [parts.factors.length / width, width])
  })
  const rowParts = table(`${direction}/row-parts`, () => {
    const { rowParts, partsPerRow } = slots()
    return tensor2d(rowParts, [rowParts.length / partsPerRow, partsPerRow], 'int32')
  })
  const products = mul(gather(spectrum, index('source')), weightsOf(c, index('entry'), factors))
  return sum(gather(sum(products, 1), rowParts), 1)
}

/** Multiplies the coefficients of `entry` by `factors`: `[…, 1]` for all tokens, or `[…, T]`. */
function weightsOf(c: Tensor, entry: Tensor, factors: Tensor): Tensor {
  return c.rank === 1
    ? expandDims(mul(gather(c, entry), factors), -1)
    : mul(gather(transpose(c), entry), expandDims(factors, -1))
}

/** Computes `∂L/∂c_l = Re Σ_t X̂[k_l]·Ĝ[j_l]`: `[n]`, or without the sum over the tokens `[T, n]`. */
function coefficientGradient(
  spectrum: Tensor,
  gradientSpectrum: Tensor,
  isSummed: boolean,
  entries: Entries,
  table: Table,
): Tensor {
  const { n, shape, rows, columns } = entries
  const [d1, d2] = shape
  const partRows = (name: string, frequencies: Uint32Array, d: number) =>
    table(name, () => {
      const real = Int32Array.from(frequencies, (frequency) => 2 * Math.min(frequency, d - frequency))
      return tensor1d(Int32Array.of(...real, ...real.map((row) => row + 1)), 'int32')
    })
  const signs = table('signs', () => {
    // `Re(a·b) = Re a·Re b − Im a·Im b`, and a conjugate flips the sign of its imaginary part.
    const isSameHalf = (l: number) => 2 * rows[l] > d1 === 2 * columns[l] > d2
    return tensor2d(
      Float32Array.from({ length: 2 * n }, (_, i) => (i < n || !isSameHalf(i - n) ? 1 : -1)),
      [2 * n, 1],
    )
  })
  const products = mul(
    gather(spectrum, partRows('columns', columns, d2)),
    gather(gradientSpectrum, partRows('rows', rows, d1)),
  )
  return isSummed
    ? sum(reshape(mul(sum(products, 1, true), signs), [2, n]), 0)
    : transpose(sum(reshape(mul(products, signs), [2, n, -1]), 0))
}

const FFT_TYPES = { Treal: 'TF_FLOAT', Tcomplex: 'TF_COMPLEX64' } as const

/** Runs a TensorFlow operator, all of whose attributes are types. */
function operator(name: string, types: Readonly<Record<string, TensorflowType>>, inputs: Tensor[]): Tensor {
  const { binding } = nodeBackend()
  const attributes = Object.entries(types).map(([name, type]) => ({
    name,
    type: binding.TF_ATTR_TYPE,
    value: binding[type],
  }))
  return nodeBackend().executeSingleOutput(name, attributes, inputs)
}

function nodeBackend(): NodeBackend {
  return backend() as unknown as NodeBackend
}
