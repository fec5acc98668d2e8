/**
 * The adapter's branch of a linear layer and its gradients, over batches of tokens, without ΔW (but for the strategy `dense`). A token
 * is transformed once whatever the number of layers: their spectra are added before the transform back.
 *
 *     X̂[k] = Σ_q x[q]·e(q·k/d2)      Δy[p] = α/(d1·d2)·Re Σ_l c_l·X̂[k_l]·e(p·j_l/d1)
 *     Ĝ[j] = Σ_p g[p]·e(p·j/d1)       ∂x[q] = α/(d1·d2)·Re Σ_l c_l·Ĝ[j_l]·e(q·k_l/d2)      ∂c_l = α/(d1·d2)·Σ_tokens Re(Ĝ[j_l]·X̂[k_l])
 *
 * All sums are float64 whatever the arrays are; results are rounded when they are added. NaN and infinities in activations spread over
 * their own token as IEEE 754 has it (a transform reaches every output) and, through sums over tokens, into ∂c; nothing is checked.
 */
import type { FloatArray, Layer } from '../adapter/layer.js'
import type { ApplyOptions } from './apply-options.js'
import { type Batch, checkBatch } from './batch.js'
import { type Branch, makeBranches } from './branch.js'
import { addDenseBackward, addDenseForward } from './dense-branch.js'
import { shapeMismatch } from './shape-mismatch.js'
import { chooseStrategy, type TransformStrategy } from './strategy.js'
import { addTransformedBackward, addTransformedForward } from './transformed-branch.js'

/** Where `addBackward` adds to. */
export interface BranchGradients {
  /** `∂L/∂c`, `[n]` for each layer. */
  readonly coefficients: readonly FloatArray[]
  /** `∂L/∂x` through the branch, `[T, d2]`; left out, it is not computed. */
  readonly x?: FloatArray
}

/**
 * `y += Σ ΔW·x` over all layers, or with `rows` the one layer of each token.
 *
 * @param layers all of one shape `[d1, d2]`; none: nothing happens
 * @param x `[T, d2]` row-major
 * @param y `[T, d1]` row-major, added to
 * @throws {FourierFTError} `SHAPE_MISMATCH` when shapes or lengths do not fit, `INVALID_OPTION` for an unknown strategy or a row index
 * that names no layer, `UNSUPPORTED` for layers of more than 2¹⁹ rows or columns; `y` is unchanged then
 */
export function addForward(
  layers: readonly Layer[],
  x: FloatArray,
  y: FloatArray,
  options: ApplyOptions = {},
): void {
  if (layers.length === 0) return
  const batch = checkBatch(layers, x, y, 'y', options)
  const branches = makeBranches(layers, batch.rows)
  const strategy = resolveStrategy(batch, layers, branches)
  if (strategy === 'dense') addDenseForward(layers, batch, x, y)
  else addTransformedForward(branches, batch, strategy, x, y)
}

/**
 * Gradients of the branch: `coefficients[a] += ∂L/∂c_a` and, where given, `x += ∂L/∂x`, for `gradY = ∂L/∂y`.
 *
 * @param layers all of one shape `[d1, d2]`; none: nothing happens
 * @param x `[T, d2]`, the input of the forward pass
 * @param gradY `[T, d1]`
 * @throws {FourierFTError} as `addForward`; nothing is changed then
 */
export function addBackward(
  layers: readonly Layer[],
  x: FloatArray,
  gradY: FloatArray,
  gradients: BranchGradients,
  options: ApplyOptions = {},
): void {
  if (gradients.coefficients.length !== layers.length) {
    throw shapeMismatch(
      'gradients.coefficients',
      `one array for each of ${layers.length} layers`,
      gradients.coefficients.length,
    )
  }
  if (layers.length === 0) return
  for (let a = 0; a < layers.length; a++) {
    const { length } = gradients.coefficients[a]
    if (length !== layers[a].entries.n) {
      throw shapeMismatch(
        `gradients.coefficients[${a}]`,
        `n = ${layers[a].entries.n} numbers (module ${layers[a].name})`,
        length,
      )
    }
  }
  if (gradients.x !== undefined && gradients.x.length !== x.length) {
    throw shapeMismatch('gradients.x', `${x.length} numbers, as x`, gradients.x.length)
  }
  const batch = checkBatch(layers, x, gradY, 'gradY', options)
  const branches = makeBranches(layers, batch.rows)
  const strategy = resolveStrategy(batch, layers, branches)
  if (strategy === 'dense') addDenseBackward(layers, batch, x, gradY, gradients)
  else addTransformedBackward(layers, branches, batch, strategy, x, gradY, gradients)
}

function resolveStrategy(
  { tokens, rows, strategy }: Batch,
  layers: readonly Layer[],
  branches: readonly Branch[],
): TransformStrategy {
  if (strategy !== 'auto') return strategy
  const counts = branches.map(({ weights }) => weights.length)
  // With one layer for each token a ΔW serves the tokens of its layer, and a token meets the entries of one.
  return rows === undefined
    ? chooseStrategy({ tokens, shape: layers[0].shape, n: counts.reduce((sum, n) => sum + n, 0) })
    : chooseStrategy({ tokens: tokens / layers.length, shape: layers[0].shape, n: Math.max(...counts) })
}
