/**
 * The adapter's branch of a linear layer, `y += ΔW·x`, and its gradients, for batches of tokens. Only the strategy `dense` forms ΔW. The
 * others transform each token once, however many layers there are: they add the layers' results in the frequency domain, then transform back.
 * `(j_l, k_l)` is entry l, `c_l` its coefficient, `α` the scaling, and `e(t) = exp(2πi·t)`.
 *
 *     X̂[k] = Σ_q x[q]·e(q·k/d2)      Δy[p] = α/(d1·d2)·Re Σ_l c_l·X̂[k_l]·e(p·j_l/d1)
 *     Ĝ[j] = Σ_p g[p]·e(p·j/d1)       ∂x[q] = α/(d1·d2)·Re Σ_l c_l·Ĝ[j_l]·e(q·k_l/d2)      ∂c_l = α/(d1·d2)·Σ_tokens Re(Ĝ[j_l]·X̂[k_l])
 *
 * All sums are float64, whatever the precision of the arrays; results are rounded when they are added. Activations are not checked: NaN
 * and infinities spread over the outputs of their own token and, through the sums over tokens, into ∂c.
 */
import type { FloatArray, Layer } from '../adapter/layer.js'
import type { ApplyOptions } from './apply-options.js'
import { type Batch, checkBatch } from './batch.js'
import type { BranchGradients } from './branch-gradients.js'
import { addDenseBackward, addDenseForward } from './dense-branch.js'
import { type EntryGroup, groupByEntries } from './entry-group.js'
import { shapeMismatch } from './shape-mismatch.js'
import { chooseStrategy, type TransformStrategy } from './strategy.js'
import { addTransformedBackward, addTransformedForward } from './transformed-branch.js'

/**
 * Adds `Σ ΔW·x` of all layers to `y`. With `rows`, adds to each token only the `ΔW·x` of the layer that `rows` names.
 *
 * @param layers layers of one shape `[d1, d2]`; an empty list changes nothing
 * @param x `[T, d2]`, row-major
 * @param y `[T, d1]`, row-major; the result is added to it
 * @throws {FourierFTError} `SHAPE_MISMATCH` if shapes or lengths do not fit, `INVALID_OPTION` for an unknown strategy or a row index out
 * of range, `UNSUPPORTED` for layers of more than 2¹⁹ rows or columns. `y` is unchanged after an error.
 */
export function addForward(
  layers: readonly Layer[],
  x: FloatArray,
  y: FloatArray,
  options: ApplyOptions = {},
): void {
  if (layers.length === 0) return
  const batch = checkBatch(layers, x, y, 'y', options)
  const groups = groupByEntries(layers, batch.rows)
  const strategy = resolveStrategy(batch, layers, groups)
  if (strategy === 'dense') addDenseForward(layers, batch, x, y)
  else addTransformedForward(groups, batch, strategy, x, y)
}

/**
 * Adds the gradients of the branch for `gradY = ∂L/∂y`: `coefficients[i] += ∂L/∂c` of layer i and, if `gradients.x` is given, `x += ∂L/∂x`.
 *
 * @param layers layers of one shape `[d1, d2]`; an empty list changes nothing
 * @param x `[T, d2]`, the input of the forward pass
 * @param gradY `[T, d1]`
 * @throws {FourierFTError} like `addForward`. Nothing is changed after an error.
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
  for (let i = 0; i < layers.length; i++) {
    const { length } = gradients.coefficients[i]
    if (length !== layers[i].entries.n) {
      throw shapeMismatch(
        `gradients.coefficients[${i}]`,
        `n = ${layers[i].entries.n} numbers (module ${layers[i].name})`,
        length,
      )
    }
  }
  if (gradients.x !== undefined && gradients.x.length !== x.length) {
    throw shapeMismatch('gradients.x', `${x.length} numbers, as x`, gradients.x.length)
  }
  const batch = checkBatch(layers, x, gradY, 'gradY', options)
  const groups = groupByEntries(layers, batch.rows)
  const strategy = resolveStrategy(batch, layers, groups)
  if (strategy === 'dense') addDenseBackward(layers, batch, x, gradY, gradients)
  else addTransformedBackward(layers, groups, batch, strategy, x, gradY, gradients)
}

function resolveStrategy(
  { tokens, rows, strategy }: Batch,
  layers: readonly Layer[],
  groups: readonly EntryGroup[],
): TransformStrategy {
  if (strategy !== 'auto') return strategy
  const counts = groups.map(({ coefficients }) => coefficients.length)
  // With `rows`, each token belongs to one layer: the estimate is for one layer with an equal share of the tokens.
  return rows === undefined
    ? chooseStrategy({ tokens, shape: layers[0].shape, n: counts.reduce((sum, n) => sum + n, 0) })
    : chooseStrategy({ tokens: tokens / layers.length, shape: layers[0].shape, n: Math.max(...counts) })
}
