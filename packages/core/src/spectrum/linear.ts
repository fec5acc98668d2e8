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
import type { ApplyOptions } from '../backend.js'
import type { Entries } from '../entries/entries.js'
import { FourierFTError } from '../errors.js'
import { addDelta, deltaAdjoint } from './delta.js'
import { type FoldedEntries, foldEntries, usedFrequencies } from './folded-entries.js'
import { addProduct } from './matrix-product.js'
import { cachedPlan } from './plan-cache.js'
import { directTransform, halfLength, type RealTransform, realFft } from './real-transform.js'
import { chooseStrategy, type TransformStrategy } from './strategy.js'

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
 * that names no layer; `y` is unchanged then
 */
export function addForward(
  layers: readonly Layer[],
  x: FloatArray,
  y: FloatArray,
  options: ApplyOptions = {},
): void {
  if (layers.length === 0) return
  const batch = checkBatch(layers, x, y, 'y', options)
  if (batch.strategy === 'dense') addDenseForward(layers, batch, x, y)
  else addTransformedForward(layers, batch, x, y)
}

function addTransformedForward(layers: readonly Layer[], batch: Batch, x: FloatArray, y: FloatArray): void {
  const { d1, d2, tokens, rows } = batch
  const branches = makeBranches(layers, rows)
  const { input, output } = makeTransforms(batch, branches)
  const { xRe, xIm, outRe, outIm } = workspace(d1, d2)
  for (let t = 0; t < tokens; t++) {
    if (rows !== undefined && rows[t] < 0) continue
    input.analyse(x, t * d2, xRe, xIm)
    outRe.fill(0)
    outIm.fill(0)
    const first = rows === undefined ? 0 : rows[t]
    const end = rows === undefined ? branches.length : first + 1
    for (let b = first; b < end; b++) {
      const { folded, weights } = branches[b]
      spread(folded.columns, folded.rows, folded.signs, weights, xRe, xIm, outRe, outIm)
    }
    output.synthesise(outRe, outIm, y, t * d1)
  }
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
    throw mismatch(
      'gradients.coefficients',
      `one array for each of ${layers.length} layers`,
      gradients.coefficients.length,
    )
  }
  if (layers.length === 0) return
  for (let a = 0; a < layers.length; a++) {
    const { length } = gradients.coefficients[a]
    if (length !== layers[a].entries.n) {
      throw mismatch(
        `gradients.coefficients[${a}]`,
        `n = ${layers[a].entries.n} numbers (module ${layers[a].name})`,
        length,
      )
    }
  }
  if (gradients.x !== undefined && gradients.x.length !== x.length) {
    throw mismatch('gradients.x', `${x.length} numbers, as x`, gradients.x.length)
  }
  const batch = checkBatch(layers, x, gradY, 'gradY', options)
  if (batch.strategy === 'dense') addDenseBackward(layers, batch, x, gradY, gradients)
  else addTransformedBackward(layers, batch, x, gradY, gradients)
}

function addTransformedBackward(
  layers: readonly Layer[],
  batch: Batch,
  x: FloatArray,
  gradY: FloatArray,
  gradients: BranchGradients,
): void {
  const { d1, d2, tokens, rows } = batch
  const branches = makeBranches(layers, rows)
  const { input, output } = makeTransforms(batch, branches)
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
      const { folded, weights } = branches[b]
      correlate(folded, gRe, gIm, xRe, xIm, sums[b])
      if (gradients.x !== undefined) {
        spread(folded.rows, folded.columns, folded.signs, weights, gRe, gIm, backRe, backIm)
      }
    }
    if (gradients.x !== undefined) input.synthesise(backRe, backIm, gradients.x, t * d2)
  }
  branches.forEach(({ members }, b) => {
    for (const a of members) addScaled(gradients.coefficients[a], sums[b], layers[a].scaling / (d1 * d2))
  })
}

/** Layers of equal entries that act on the same tokens: their coefficients are added first, and the branch runs once for all. */
interface Branch {
  readonly folded: FoldedEntries
  /** `Σ_a α_a·c_a/(d1·d2)` */
  readonly weights: Float64Array
  readonly entries: Entries
  /** Positions in the list of layers. */
  readonly members: number[]
}

/** With `rows` each layer is a branch of its own, in order. */
function makeBranches(layers: readonly Layer[], rows: Int32Array | undefined): Branch[] {
  const branches: Branch[] = []
  layers.forEach(({ entries, shape, coefficients, scaling }, a) => {
    let branch =
      rows === undefined ? branches.find((other) => equalEntries(other.entries, entries)) : undefined
    if (branch === undefined) {
      branch = { folded: foldEntries(entries), weights: new Float64Array(entries.n), entries, members: [] }
      branches.push(branch)
    }
    branch.members.push(a)
    addScaled(branch.weights, coefficients, scaling / (shape[0] * shape[1]))
  })
  return branches
}

function equalEntries(a: Entries, b: Entries): boolean {
  if (a === b) return true
  if (a.n !== b.n) return false
  for (let l = 0; l < a.n; l++) if (a.rows[l] !== b.rows[l] || a.columns[l] !== b.columns[l]) return false
  return true
}

function makeTransforms(
  { d1, d2, strategy }: Batch,
  branches: readonly Branch[],
): { input: RealTransform; output: RealTransform } {
  if (strategy === 'spectral') return { input: realFft(d2), output: realFft(d1) }
  const columns = branches.map(({ folded }) => folded.columns)
  const rows = branches.map(({ folded }) => folded.rows)
  return {
    input: directTransform(d2, usedFrequencies(columns, d2)),
    output: directTransform(d1, usedFrequencies(rows, d1)),
  }
}

/** `to[target_l] += w_l·from[source_l]`, folded: the sparse product with the coefficients between two half spectra. */
function spread(
  sources: Int32Array,
  targets: Int32Array,
  signs: Float64Array,
  weights: Float64Array,
  fromRe: Float64Array,
  fromIm: Float64Array,
  toRe: Float64Array,
  toIm: Float64Array,
): void {
  for (let l = 0; l < weights.length; l++) {
    const source = sources[l]
    const target = targets[l]
    const weight = weights[l]
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

function addScaled(target: FloatArray, source: FloatArray, scale: number): void {
  for (let l = 0; l < source.length; l++) target[l] += scale * source[l]
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

/** `dense`: all tokens of one set of layers times their summed ΔW. */
function addDenseForward(layers: readonly Layer[], batch: Batch, x: FloatArray, y: FloatArray): void {
  const { d1, d2 } = batch
  const weight = new Float64Array(d1 * d2)
  for (const { members, tokens } of denseSets(layers, batch)) {
    weight.fill(0)
    for (const a of members) addDelta(layers[a], weight)
    const part = new Float64Array(tokens.length * d1)
    const transposed = { data: weight, rowStride: 1, columnStride: d2 }
    addProduct(tokens.length, d1, d2, rowMajor(pickRows(x, d2, tokens), d2), transposed, part)
    addRows(y, d1, tokens, part)
  }
}

function addDenseBackward(
  layers: readonly Layer[],
  batch: Batch,
  x: FloatArray,
  gradY: FloatArray,
  gradients: BranchGradients,
): void {
  const { d1, d2 } = batch
  const matrix = new Float64Array(d1 * d2)
  for (const { members, tokens } of denseSets(layers, batch)) {
    const inputs = pickRows(x, d2, tokens)
    const outputGradients = pickRows(gradY, d1, tokens)
    if (gradients.x !== undefined) {
      matrix.fill(0)
      for (const a of members) addDelta(layers[a], matrix)
      const part = new Float64Array(tokens.length * d2)
      addProduct(tokens.length, d2, d1, rowMajor(outputGradients, d1), rowMajor(matrix, d2), part)
      addRows(gradients.x, d2, tokens, part)
    }
    // ∂L/∂ΔW = gradYᵀ·x, then its adjoint transform at the entries.
    matrix.fill(0)
    const transposed = { data: outputGradients, rowStride: 1, columnStride: d1 }
    addProduct(d1, d2, tokens.length, transposed, rowMajor(inputs, d2), matrix)
    for (const a of members) {
      const { entries, scaling } = layers[a]
      addScaled(gradients.coefficients[a], deltaAdjoint(entries, matrix), scaling)
    }
  }
}

/** Layers with the tokens they act on: one set of all, or one for each layer that `rows` names. */
function denseSets(
  layers: readonly Layer[],
  { tokens, rows }: Batch,
): { members: readonly number[]; tokens: Int32Array }[] {
  const all = Int32Array.from({ length: tokens }, (_, t) => t)
  if (rows === undefined) return tokens === 0 ? [] : [{ members: [...layers.keys()], tokens: all }]
  return layers
    .map((_, a) => ({ members: [a], tokens: all.filter((t) => rows[t] === a) }))
    .filter((set) => set.tokens.length > 0)
}

function rowMajor(data: FloatArray, width: number) {
  return { data, rowStride: width, columnStride: 1 }
}

function pickRows(from: FloatArray, width: number, tokens: Int32Array): Float64Array {
  const picked = new Float64Array(tokens.length * width)
  tokens.forEach((t, i) => {
    picked.set(from.subarray(t * width, (t + 1) * width), i * width)
  })
  return picked
}

function addRows(to: FloatArray, width: number, tokens: Int32Array, part: Float64Array): void {
  tokens.forEach((t, i) => {
    for (let p = 0; p < width; p++) to[t * width + p] += part[i * width + p]
  })
}

interface Batch {
  readonly d1: number
  readonly d2: number
  readonly tokens: number
  readonly rows: Int32Array | undefined
  readonly strategy: TransformStrategy
}

/** Everything that can be wrong with a call, before anything is computed. */
function checkBatch(
  layers: readonly Layer[],
  x: FloatArray,
  other: FloatArray,
  otherName: string,
  { rows, strategy = 'auto' }: ApplyOptions,
): Batch {
  const { shape, name } = layers[0]
  const [d1, d2] = shape
  let n = 0
  for (const layer of layers) {
    const { entries, coefficients } = layer
    if (layer.shape[0] !== d1 || layer.shape[1] !== d2) {
      throw mismatch(
        `layers: module ${layer.name}`,
        `the shape [${d1}, ${d2}] of module ${name}`,
        `[${layer.shape}]`,
      )
    }
    if (entries.shape[0] !== d1 || entries.shape[1] !== d2) {
      throw mismatch(
        `entries of module ${layer.name}`,
        `the layer's shape [${d1}, ${d2}]`,
        `[${entries.shape}]`,
      )
    }
    if (coefficients.length !== entries.n) {
      throw mismatch(`coefficients of module ${layer.name}`, `n = ${entries.n} numbers`, coefficients.length)
    }
    n += entries.n
  }
  if (x.length % d2 !== 0) throw mismatch('x', `whole rows of d2 = ${d2} numbers`, x.length)
  const tokens = x.length / d2
  if (other.length !== tokens * d1) {
    throw mismatch(otherName, `T·d1 = ${tokens}·${d1} = ${tokens * d1} numbers`, other.length)
  }
  if (rows !== undefined) {
    if (rows.length !== tokens)
      throw mismatch('rows', `one index for each of T = ${tokens} rows of x`, rows.length)
    for (const index of rows) {
      if (index < -1 || index >= layers.length) {
        const expected = `an index of one of ${layers.length} layers, or -1 for none`
        throw new FourierFTError('INVALID_OPTION', `rows: expected ${expected}; received ${index}`, {
          option: 'rows',
          expected,
          received: index,
        })
      }
    }
  }
  switch (strategy) {
    case 'dense':
    case 'factored':
    case 'spectral':
      return { d1, d2, tokens, rows, strategy }
    case 'auto':
      return { d1, d2, tokens, rows, strategy: chooseStrategy({ tokens, shape, n }) }
    default: {
      const expected = 'auto, dense, factored or spectral'
      throw new FourierFTError('INVALID_OPTION', `strategy: expected ${expected}; received ${strategy}`, {
        option: 'strategy',
        expected,
        received: strategy,
      })
    }
  }
}

function mismatch(what: string, expected: string, received: number | string): FourierFTError {
  return new FourierFTError('SHAPE_MISMATCH', `${what}: expected ${expected}; received ${received}`, {
    expected,
    received,
  })
}
