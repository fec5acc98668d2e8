/**
 * The strategies `spectral` and `factored`, which transform the activations; they differ only in how a transform is computed. A token is
 * transformed once, however many layers there are: their results are added in the frequency domain, then transformed back.
 */
import type { FloatArray, Layer } from '../adapter/layer.js'
import type { Batch } from './batch.js'
import type { BranchGradients } from './branch-gradients.js'
import { addScaled, type EntryGroup } from './entry-group.js'
import { type FoldedEntries, usedFrequencies } from './folded-entries.js'
import { cachedPlan } from './plan-cache.js'
import { directTransform, halfLength, type RealTransform, realFft } from './real-transform.js'
import type { TransformStrategy } from './strategy.js'

type SpectrumStrategy = Exclude<TransformStrategy, 'dense'>

export function addTransformedForward(
  groups: readonly EntryGroup[],
  batch: Batch,
  strategy: SpectrumStrategy,
  x: FloatArray,
  y: FloatArray,
): void {
  const { d1, d2, tokens, rows } = batch
  const { input, output } = makeTransforms(batch, groups, strategy)
  const { xRe, xIm, outRe, outIm } = workspace(d1, d2)
  for (let t = 0; t < tokens; t++) {
    if (rows !== undefined && rows[t] < 0) continue
    input.analyse(x, t * d2, xRe, xIm)
    outRe.fill(0)
    outIm.fill(0)
    const first = rows === undefined ? 0 : rows[t]
    const end = rows === undefined ? groups.length : first + 1
    for (let i = first; i < end; i++) {
      const { folded, coefficients, scale } = groups[i]
      addWeighted(folded.columns, folded.rows, folded.signs, coefficients, scale, xRe, xIm, outRe, outIm)
    }
    output.synthesise(outRe, outIm, y, t * d1)
  }
}

export function addTransformedBackward(
  layers: readonly Layer[],
  groups: readonly EntryGroup[],
  batch: Batch,
  strategy: SpectrumStrategy,
  x: FloatArray,
  gradY: FloatArray,
  gradients: BranchGradients,
): void {
  const { d1, d2, tokens, rows } = batch
  const { input, output } = makeTransforms(batch, groups, strategy)
  const { xRe, xIm, gRe, gIm, backRe, backIm } = workspace(d1, d2)
  const sums = groups.map(({ coefficients }) => new Float64Array(coefficients.length))
  for (let t = 0; t < tokens; t++) {
    if (rows !== undefined && rows[t] < 0) continue
    input.analyse(x, t * d2, xRe, xIm)
    output.analyse(gradY, t * d1, gRe, gIm)
    backRe.fill(0)
    backIm.fill(0)
    const first = rows === undefined ? 0 : rows[t]
    const end = rows === undefined ? groups.length : first + 1
    for (let i = first; i < end; i++) {
      const { folded, coefficients, scale } = groups[i]
      addCorrelations(folded, gRe, gIm, xRe, xIm, sums[i])
      if (gradients.x !== undefined) {
        addWeighted(folded.rows, folded.columns, folded.signs, coefficients, scale, gRe, gIm, backRe, backIm)
      }
    }
    if (gradients.x !== undefined) input.synthesise(backRe, backIm, gradients.x, t * d2)
  }
  groups.forEach(({ layerIndices }, i) => {
    for (const index of layerIndices)
      addScaled(gradients.coefficients[index], sums[i], layers[index].scaling / (d1 * d2))
  })
}

function makeTransforms(
  { d1, d2 }: Batch,
  groups: readonly EntryGroup[],
  strategy: SpectrumStrategy,
): { input: RealTransform; output: RealTransform } {
  if (strategy === 'spectral') return { input: realFft(d2), output: realFft(d1) }
  const columns = groups.map(({ folded }) => folded.columns)
  const rows = groups.map(({ folded }) => folded.rows)
  return {
    input: directTransform(d2, usedFrequencies(columns, d2)),
    output: directTransform(d1, usedFrequencies(rows, d1)),
  }
}

/** Computes the sparse product with the coefficients on half spectra: `output[target_l] += scale·c_l·input[source_l]`. */
function addWeighted(
  sources: Int32Array,
  targets: Int32Array,
  signs: Float64Array,
  coefficients: FloatArray,
  scale: number,
  inputRe: Float64Array,
  inputIm: Float64Array,
  outputRe: Float64Array,
  outputIm: Float64Array,
): void {
  for (let l = 0; l < coefficients.length; l++) {
    const source = sources[l]
    const target = targets[l]
    const factor = scale * coefficients[l]
    outputRe[target] += factor * inputRe[source]
    outputIm[target] += factor * signs[l] * inputIm[source]
  }
}

/** Adds `Re(Ĝ[j_l]·X̂[k_l])` to `sums_l`. */
function addCorrelations(
  { rows, columns, signs }: FoldedEntries,
  gRe: Float64Array,
  gIm: Float64Array,
  xRe: Float64Array,
  xIm: Float64Array,
  sums: Float64Array,
): void {
  for (let l = 0; l < sums.length; l++) {
    const j = rows[l]
    const k = columns[l]
    sums[l] += gRe[j] * xRe[k] - signs[l] * gIm[j] * xIm[k]
  }
}

/** Half spectra of one token: of the input `x`, of the output's gradient `g`, and of the results to transform back. */
interface Workspace {
  readonly xRe: Float64Array
  readonly xIm: Float64Array
  readonly gRe: Float64Array
  readonly gIm: Float64Array
  readonly outRe: Float64Array
  readonly outIm: Float64Array
  readonly backRe: Float64Array
  readonly backIm: Float64Array
}

function workspace(d1: number, d2: number): Workspace {
  return cachedPlan(`linear-workspace ${d1} ${d2}`, () => {
    const inputSpectrum = () => new Float64Array(halfLength(d2))
    const outputSpectrum = () => new Float64Array(halfLength(d1))
    return {
      xRe: inputSpectrum(),
      xIm: inputSpectrum(),
      gRe: outputSpectrum(),
      gIm: outputSpectrum(),
      outRe: outputSpectrum(),
      outIm: outputSpectrum(),
      backRe: inputSpectrum(),
      backIm: inputSpectrum(),
    }
  })
}
