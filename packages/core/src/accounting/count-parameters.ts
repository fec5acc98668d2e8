/**
 * Counts the parameters that a method trains, and their bytes, from the shapes of the adapted layers, as in table 1 of the paper.
 */
import type { Shape } from '../entries/entries.js'
import { checkEntryCount, countPositions } from '../entries/shape.js'
import { FourierFTError } from '../errors.js'

/** A method with its size: `n` coefficients for each layer, or for each layer a pair of matrices of rank `r`. */
export type MethodSize =
  | { readonly method: 'fourierft'; readonly n: number }
  | { readonly method: 'lora'; readonly rank: number }

export interface ParameterCount {
  /** Number of adapted layers. */
  readonly layers: number
  /** Number of trained parameters. */
  readonly parameters: number
  /** Size of the parameters as float32. A file adds only its header, because the seed determines the entries. */
  readonly bytes: number
}

const BYTES_PER_NUMBER = Float32Array.BYTES_PER_ELEMENT

/**
 * Counts the parameters: for each layer FourierFT trains `n`, whatever the shape, and LoRA trains `r·(d1 + d2)`.
 *
 * @param size the method and its `n` (an integer in `1 … d1·d2` of every layer) or `rank` (a positive integer)
 * @param shapes `[out, in]` of each adapted layer
 * @throws {FourierFTError} `INVALID_OPTION` for an invalid shape or rank, `INVALID_ENTRY_COUNT` for an invalid `n`
 * @see section 3.3 and table 1 of the paper
 */
export function countParameters(size: MethodSize, shapes: Iterable<Shape>): ParameterCount {
  const perLayer = Array.from(shapes, (shape) => countLayer(size, shape))
  const parameters = perLayer.reduce((sum, count) => sum + count, 0)
  return { layers: perLayer.length, parameters, bytes: parameters * BYTES_PER_NUMBER }
}

function countLayer(size: MethodSize, shape: Shape): number {
  const positions = countPositions(shape)
  if (size.method === 'fourierft') {
    checkEntryCount(size.n, positions, shape)
    return size.n
  }
  if (!Number.isSafeInteger(size.rank) || size.rank < 1) {
    throw new FourierFTError('INVALID_OPTION', `rank: expected a positive integer; received ${size.rank}`, {
      option: 'rank',
      expected: 'a positive integer',
      received: size.rank,
    })
  }
  return size.rank * (shape[0] + shape[1])
}
