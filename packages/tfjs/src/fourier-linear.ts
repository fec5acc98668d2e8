/**
 * `Δy = x · ΔWᵀ` as a differentiable function of TensorFlow.js: the branch that an adapter adds to a linear layer. It works on tensors;
 * `attach` is for models, layers and files.
 */
import { FourierFTError, type Layer } from '@fourierft/core'
import { add, mul, reshape, sum, type Tensor, type Tensor2D, tidy } from '@tensorflow/tfjs-core'
// Registers the gradients of TensorFlow.js's operations: tfjs-core has none.
import '@tensorflow/tfjs-layers'
import { isSpectralExact, scaledBilinear, usesFloat16 } from './ops/float16-scaling.js'
import { chooseStrategy } from './strategies/choose-strategy.js'
import { dense } from './strategies/dense.js'
import { factored } from './strategies/factored.js'
import { hasNativeKernel, native } from './strategies/native.js'
import { spectral } from './strategies/spectral.js'
import type { TfjsStrategy } from './strategies/strategy.js'
import { addingBase, type StrategyFunction } from './strategies/strategy-function.js'
import { TableCache } from './table-cache.js'

/** A layer without its coefficients, which are a tensor here. */
export type LayerSpec = Pick<Layer, 'shape' | 'entries' | 'scaling'>

export interface FourierLinearOptions {
  /** Default: `auto`, by `(T, d1, d2, n)`. */
  readonly strategy?: TfjsStrategy | 'auto' | undefined
  /** For each token the row of `coefficients` that it uses; −1 means no adapter. Default: all rows of `coefficients`, added. */
  readonly rows?: ArrayLike<number> | undefined
  /** `[..., d1]`: the frozen layer's `x·W + b`, to which Δy is added. Default: none, so that the result is Δy. */
  readonly base?: Tensor | undefined
  /** The cache for constant tables. Default: one cache that all calls share; `disposeTables` empties it. */
  readonly tables?: TableCache | undefined
}

const STRATEGIES: Readonly<Record<TfjsStrategy, StrategyFunction>> = {
  dense: addingBase(dense),
  factored: addingBase(factored),
  spectral: addingBase(spectral),
  native,
}

const sharedTables = new TableCache()

/** Frees the tables that `fourierLinear` keeps between calls. They are computed again when they are next needed. */
export function disposeTables(): void {
  sharedTables.dispose()
}

/**
 * Computes `Δy = α · x · Re(IDFT2(F))ᵀ` for coefficients `c` at the layer's entries; differentiable by `x`, `c` and `base`.
 *
 * @param x activations `[..., d2]`, float32
 * @param coefficients `[n]`, or `[A, n]` for `A` adapters of the same entries and scaling
 * @param spec shape `[d1, d2]` = `[out, in]`, entries and scaling `α`
 * @returns Δy `[..., d1]`, or `base + Δy`
 * @throws {FourierFTError} `SHAPE_MISMATCH`, `UNSUPPORTED_DTYPE`, `INVALID_OPTION` (`rows`), `UNSUPPORTED` (`strategy`)
 * @see the paper's equations 2 to 4: `ΔW[p,q] = α/(d1·d2) · Σ_l c_l · cos(2π(p·j_l/d1 + q·k_l/d2))`
 */
export function fourierLinear(
  x: Tensor,
  coefficients: Tensor,
  spec: LayerSpec,
  options: FourierLinearOptions = {},
): Tensor {
  const { strategy = 'auto', rows, tables = sharedTables, base } = options
  checkTensors(x, coefficients, spec)
  const { entries, scaling, shape } = spec
  const [d1, d2] = shape
  const tokens = x.size / d2
  if (rows !== undefined) checkRows(rows, tokens, coefficients)
  if (base !== undefined) checkBase(base, x, spec)
  const name = strategy === 'auto' ? chooseStrategy({ tokens, shape, n: entries.n }) : strategy
  const applyStrategy = Object.hasOwn(STRATEGIES, name) ? STRATEGIES[name] : undefined
  if (applyStrategy === undefined || (name === 'native' && !hasNativeKernel())) {
    const available = ['auto', ...Object.keys(STRATEGIES)].filter(
      (strategy) => strategy !== 'native' || hasNativeKernel(),
    )
    throw new FourierFTError(
      'UNSUPPORTED',
      `strategy: expected one of ${available.join(', ')}; received ${name}`,
      {
        option: 'strategy',
        expected: available,
        received: name,
      },
    )
  }
  if (name === 'spectral' && !isSpectralExact(entries)) {
    throw new FourierFTError(
      'UNSUPPORTED',
      'strategy: on a backend that stores numbers in float16, spectral supports layers of at most 1024 features and 2048 entries; ' +
        `received [${shape.join(', ')}] with ${entries.n}`,
      {
        advice: "use 'auto', 'dense' or 'factored'",
        option: 'strategy',
        expected: ['auto', 'dense', 'factored'],
        received: name,
      },
    )
  }

  return tidy(() => {
    const flat = reshape(x, [tokens, d2]) as Tensor2D
    const flatBase = base && (reshape(base, [tokens, d1]) as Tensor2D)
    const factor = scaling / (d1 * d2)
    const apply = (x: Tensor, coefficients: Tensor, base?: Tensor2D) => {
      const matrix = reshape(coefficients, [-1, entries.n])
      const c = rows === undefined ? sum(matrix, 0) : matrix
      return applyStrategy({ x: x as Tensor2D, c, rows, entries, tables, base })
    }
    const y = usesFloat16()
      ? addTo(flatBase, scaledBilinear(flat, coefficients, factor, d2, apply))
      : apply(flat, mul(coefficients, factor), flatBase)
    return reshape(y, [...x.shape.slice(0, -1), d1])
  })
}

function addTo(base: Tensor | undefined, change: Tensor): Tensor {
  return base === undefined ? change : add(base, change)
}

function checkTensors(x: Tensor, coefficients: Tensor, { shape, entries }: LayerSpec): void {
  if (x.dtype !== 'float32' || coefficients.dtype !== 'float32') {
    throw new FourierFTError(
      'UNSUPPORTED_DTYPE',
      `fourierLinear: expected x and coefficients in float32; received ${x.dtype} and ${coefficients.dtype}`,
      { advice: 'cast them first', expected: 'float32', received: [x.dtype, coefficients.dtype] },
    )
  }
  if (x.rank < 1 || x.shape.at(-1) !== shape[1]) {
    throw new FourierFTError(
      'SHAPE_MISMATCH',
      `fourierLinear: x: expected [..., ${shape[1]}] for a layer of shape [${shape.join(', ')}] ([out, in]); received [${x.shape.join(', ')}]`,
      { tensor: 'x', expected: shape[1], received: x.shape },
    )
  }
  if (entries.shape[0] !== shape[0] || entries.shape[1] !== shape[1]) {
    throw new FourierFTError(
      'SHAPE_MISMATCH',
      `fourierLinear: entries: expected entries of a spectrum [${shape.join(', ')}], the layer's shape; received [${entries.shape.join(', ')}]`,
      { expected: shape, received: entries.shape },
    )
  }
  if (coefficients.rank < 1 || coefficients.rank > 2 || coefficients.shape.at(-1) !== entries.n) {
    throw new FourierFTError(
      'SHAPE_MISMATCH',
      `fourierLinear: coefficients: expected [${entries.n}] or [A, ${entries.n}] for ${entries.n} entries; received [${coefficients.shape.join(', ')}]`,
      { tensor: 'coefficients', expected: entries.n, received: coefficients.shape },
    )
  }
}

function checkBase(base: Tensor, x: Tensor, { shape: [d1] }: LayerSpec): void {
  const expected = [...x.shape.slice(0, -1), d1]
  if (base.dtype === 'float32' && base.shape.join() === expected.join()) return
  throw new FourierFTError(
    'SHAPE_MISMATCH',
    `fourierLinear: base: expected float32 [${expected.join(', ')}]; received ${base.dtype} [${base.shape.join(', ')}]`,
    { tensor: 'base', expected, received: base.shape },
  )
}

function checkRows(rows: ArrayLike<number>, tokens: number, coefficients: Tensor): void {
  if (rows.length !== tokens) {
    throw new FourierFTError(
      'SHAPE_MISMATCH',
      `rows: expected one index for each of the ${tokens} tokens; received ${rows.length}`,
      { option: 'rows', expected: tokens, received: rows.length },
    )
  }
  const adapters = coefficients.rank === 1 ? 1 : coefficients.shape[0]
  const wrong = Array.from(rows).findIndex((row) => !Number.isInteger(row) || row < -1 || row >= adapters)
  if (wrong >= 0) {
    throw new FourierFTError(
      'INVALID_OPTION',
      `rows[${wrong}]: expected −1 (no adapter) or the index of one of ${adapters} adapters; received ${rows[wrong]}`,
      { option: `rows[${wrong}]`, expected: `-1 … ${adapters - 1}`, received: rows[wrong] },
    )
  }
}
