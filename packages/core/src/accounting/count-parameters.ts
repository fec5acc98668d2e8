/**
 * How many numbers a method trains and how many bytes they take, from the shapes of the adapted layers alone. No model and no adapter
 * is made, and nothing is read: this is the arithmetic behind table 1 of the paper.
 */

import type { Shape } from '../entries/entries.js'
import { checkEntryCount, countPlaces } from '../entries/shape.js'
import { FourierFTError } from '../errors.js'

/** A method with its size: `n` coefficients, or a pair of rank `r`, for each layer. */
export type MethodSize =
  | { readonly method: 'fourierft'; readonly n: number }
  | { readonly method: 'lora'; readonly rank: number }

export interface ParameterCount {
  /** Adapted layers. */
  readonly layers: number
  /** Trained numbers. */
  readonly parameters: number
  /** The numbers as float32. A file adds its header, and neither method stores anything else: entries come from their seed. */
  readonly bytes: number
}

const BYTES_PER_NUMBER = Float32Array.BYTES_PER_ELEMENT

/**
 * FourierFT trains `n` numbers for each layer, whatever its shape; LoRA trains `r·(d1 + d2)`.
 *
 * @param size the method and its `n` (an integer in `1 … d1·d2` of every layer) or `rank` (a positive integer)
 * @param shapes `[out, in]` of each adapted layer
 * @throws {FourierFTError} `INVALID_OPTION` for a shape or a rank, `INVALID_ENTRY_COUNT` for an `n`, out of range
 * @see section 3.3 and table 1 of the paper
 */
export function countParameters(size: MethodSize, shapes: Iterable<Shape>): ParameterCount {
  const perLayer = Array.from(shapes, (shape) => countLayer(size, shape))
  const parameters = perLayer.reduce((sum, count) => sum + count, 0)
  return { layers: perLayer.length, parameters, bytes: parameters * BYTES_PER_NUMBER }
}

function countLayer(size: MethodSize, shape: Shape): number {
  const places = countPlaces(shape)
  if (size.method === 'fourierft') {
    checkEntryCount(size.n, places, shape)
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
