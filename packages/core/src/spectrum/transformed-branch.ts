/**
 * The branch by transforms of the activations, strategies `spectral` and `factored`: they differ in how a transform is computed, nothing
 * else. A token is transformed once whatever the number of layers; their spectra are added before the transform back.
 */
import type { FloatArray, Layer } from '../adapter/layer.js'
import type { Batch } from './batch.js'
import { addScaled, type Branch } from './branch.js'
import { type FoldedEntries, usedFrequencies } from './folded-entries.js'
import type { BranchGradients } from './linear.js'
import { cachedPlan } from './plan-cache.js'
import { directTransform, halfLength, type RealTransform, realFft } from './real-transform.js'
import type { TransformStrategy } from './strategy.js'

type Transforming = Exclude<TransformStrategy, 'dense'>

export function addTransformedForward(
  branches: readonly Branch[],
  batch: Batch,
  strategy: Transforming,
  x: FloatArray,
  y: FloatArray,
): void {
  const { d1, d2, tokens, rows } = batch
  const { input, output } = makeTransforms(batch, branches, strategy)
  const { xRe, xIm, outRe, outIm } = workspace(d1, d2)
  for (let t = 0; t < tokens; t++) {
    if (rows !== undefined && rows[t] < 0) continue
    input.analyse(x, t * d2, xRe, xIm)
    outRe.fill(0)
    outIm.fill(0)
    const first = rows === undefined ? 0 : rows[t]
    const end = rows === undefined ? branches.length : first + 1
    for (let b = first; b < end; b++) {
      const { folded, weights, scale } = branches[b]
      spread(folded.columns, folded.rows, folded.signs, weights, scale, xRe, xIm, outRe, outIm)
    }
    output.synthesise(outRe, outIm, y, t * d1)
  }
}

export function addTransformedBackward(
  layers: readonly Layer[],
  branches: readonly Branch[],
  batch: Batch,
  strategy: Transforming,
  x: FloatArray,
  gradY: FloatArray,
  gradients: BranchGradients,
): void {
  const { d1, d2, tokens, rows } = batch
  const { input, output } = makeTransforms(batch, branches, strategy)
  const { xRe, xIm, gRe, gIm, backRe, backIm } = workspace(d1, d2)
  const sums = branches.map(({ weights }) => new Float64Array(weights.length))
  for (let t = 0; t < tokens; t++) {
    if (rows !== undefined && rows[t] < 0) continue
    input.analyse(x, t * d2, xRe, xIm)
    output.analyse(gradY, t * d1, gRe, gIm)
    backRe.fill(0)
    backIm.fill(0)
    const first = rows === undefined ? 0 : rows[t]
    const end = rows === undefined ? branches.length : first + 1
    for (let b = first; b < end; b++) {
      const { folded, weights, scale } = branches[b]
      correlate(folded, gRe, gIm, xRe, xIm, sums[b])
      if (gradients.x !== undefined) {
        spread(folded.rows, folded.columns, folded.signs, weights, scale, gRe, gIm, backRe, backIm)
      }
    }
    if (gradients.x !== undefined) input.synthesise(backRe, backIm, gradients.x, t * d2)
  }
  branches.forEach(({ members }, b) => {
    for (const a of members) addScaled(gradients.coefficients[a], sums[b], layers[a].scaling / (d1 * d2))
  })
}

function makeTransforms(
  { d1, d2 }: Batch,
  branches: readonly Branch[],
  strategy: Transforming,
): { input: RealTransform; output: RealTransform } {
  if (strategy === 'spectral') return { input: realFft(d2), output: realFft(d1) }
  const columns = branches.map(({ folded }) => folded.columns)
  const rows = branches.map(({ folded }) => folded.rows)
  return {
    input: directTransform(d2, usedFrequencies(columns, d2)),
    output: directTransform(d1, usedFrequencies(rows, d1)),
  }
}

/** `to[target_l] += scale·w_l·from[source_l]`, folded: the sparse product with the coefficients between two half spectra. */
function spread(
  sources: Int32Array,
  targets: Int32Array,
  signs: Float64Array,
  weights: FloatArray,
  scale: number,
  fromRe: Float64Array,
  fromIm: Float64Array,
  toRe: Float64Array,
  toIm: Float64Array,
): void {
  for (let l = 0; l < weights.length; l++) {
    const source = sources[l]
    const target = targets[l]
    const weight = scale * weights[l]
    toRe[target] += weight * fromRe[source]
    toIm[target] += weight * signs[l] * fromIm[source]
  }
}

/** `sums_l += Re(Ĝ[j_l]·X̂[k_l])` */
function correlate(
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

/** Half spectra of one token: of its input, of its output's gradient, and those to be transformed back. */
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
    const wide = () => new Float64Array(halfLength(d2))
    const tall = () => new Float64Array(halfLength(d1))
    return {
      xRe: wide(),
      xIm: wide(),
      gRe: tall(),
      gIm: tall(),
      outRe: tall(),
      outIm: tall(),
      backRe: wide(),
      backIm: wide(),
    }
  })
}
