/** Checks the arguments of `addForward` and `addBackward` before anything is computed or changed. */
import type { FloatArray, Layer } from '../adapter/layer.js'
import { FourierFTError } from '../errors.js'
import type { ApplyOptions } from './apply-options.js'
import { checkLengths } from './check-size.js'
import { shapeMismatch } from './shape-mismatch.js'
import type { TransformStrategy } from './strategy.js'

export interface Batch {
  readonly d1: number
  readonly d2: number
  readonly tokens: number
  /** The index of the layer for each token; −1 means no layer. Undefined: each token gets the sum of all layers. */
  readonly rows: Int32Array | undefined
  readonly strategy: TransformStrategy | 'auto'
}

/**
 * Checks all arguments.
 *
 * @param layers at least one
 * @param outputs `[T, d1]`: y or its gradient, called `outputsName` in messages
 * @throws {FourierFTError} `SHAPE_MISMATCH`, `INVALID_OPTION`, `UNSUPPORTED` for layers that are too large
 */
export function checkBatch(
  layers: readonly Layer[],
  x: FloatArray,
  outputs: FloatArray,
  outputsName: string,
  { rows, strategy = 'auto' }: ApplyOptions,
): Batch {
  const { name, shape } = layers[0]
  const [d1, d2] = shape
  for (const layer of layers) {
    const { entries, coefficients } = layer
    if (layer.shape[0] !== d1 || layer.shape[1] !== d2) {
      throw shapeMismatch(
        `layers: module ${layer.name}`,
        `the shape [${d1}, ${d2}] of module ${name}`,
        `[${layer.shape}]`,
      )
    }
    if (entries.shape[0] !== d1 || entries.shape[1] !== d2) {
      throw shapeMismatch(
        `entries of module ${layer.name}`,
        `the layer's shape [${d1}, ${d2}]`,
        `[${entries.shape}]`,
      )
    }
    if (coefficients.length !== entries.n) {
      throw shapeMismatch(
        `coefficients of module ${layer.name}`,
        `n = ${entries.n} numbers`,
        coefficients.length,
      )
    }
  }
  checkLengths(shape, name)
  if (x.length % d2 !== 0) throw shapeMismatch('x', `whole rows of d2 = ${d2} numbers`, x.length)
  const tokens = x.length / d2
  if (outputs.length !== tokens * d1) {
    throw shapeMismatch(outputsName, `T·d1 = ${tokens}·${d1} = ${tokens * d1} numbers`, outputs.length)
  }
  if (rows !== undefined) {
    if (rows.length !== tokens)
      throw shapeMismatch('rows', `one index for each of T = ${tokens} rows of x`, rows.length)
    for (const index of rows) {
      if (index < -1 || index >= layers.length) {
        const expected = `an index of one of ${layers.length} layers, or -1 for no layer`
        throw new FourierFTError('INVALID_OPTION', `rows: expected ${expected}; received ${index}`, {
          option: 'rows',
          expected,
          received: index,
        })
      }
    }
  }
  if (!isKnown(strategy)) {
    throw new FourierFTError(
      'INVALID_OPTION',
      `strategy: expected one of ${STRATEGIES.join(', ')}; received ${strategy}`,
      {
        option: 'strategy',
        expected: STRATEGIES,
        received: strategy,
      },
    )
  }
  return { d1, d2, tokens, rows, strategy }
}

const STRATEGIES = ['auto', 'dense', 'factored', 'spectral'] as const

function isKnown(strategy: string): strategy is (typeof STRATEGIES)[number] {
  return STRATEGIES.some((known) => known === strategy)
}
