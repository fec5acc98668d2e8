/**
 * How large a layer may be for the transforms of this package. A shape may come from a stranger's file, and at a length with a large prime
 * factor a transform takes tables of ten times the length and seconds in which nothing else runs.
 */
import type { Layer } from '../adapter/layer.js'
import type { Shape } from '../entries/entries.js'
import { FourierFTError } from '../errors.js'

/** Rows or columns: twice the largest vocabulary of today's models. A prime near it takes about a second, once. */
export const MAX_LENGTH = 2 ** 19
/** Numbers of one ΔW: 8 GiB in float32. */
const MAX_PLACES = 2 ** 31 - 1

/** @throws {FourierFTError} `UNSUPPORTED` for a layer of more than 2¹⁹ rows or columns; before any memory is taken */
export function checkLengths(shape: Shape, module?: string): void {
  if (shape[0] <= MAX_LENGTH && shape[1] <= MAX_LENGTH) return
  throw new FourierFTError(
    'UNSUPPORTED',
    `${module === undefined ? '' : `module ${module}: `}a layer may have at most ${MAX_LENGTH} rows and columns here; ` +
      `its shape is [${shape.join(', ')}]`,
    { ...(module !== undefined && { module }), expected: `at most ${MAX_LENGTH}`, received: shape },
  )
}

/** An empty ΔW. @throws {FourierFTError} `UNSUPPORTED` where it is too large for this machine's memory, or has 2³¹ numbers or more */
export function allocateDelta({ name, shape }: Pick<Layer, 'name' | 'shape'>): Float32Array {
  const places = shape[0] * shape[1]
  try {
    if (places <= MAX_PLACES) return new Float32Array(places)
  } catch {
    // No memory: as if it were too large for everyone.
  }
  throw new FourierFTError(
    'UNSUPPORTED',
    `module ${name}: its ΔW of shape [${shape.join(', ')}] has ${places} numbers, which do not fit into memory; apply the adapter beside ` +
      'the weight instead (addForward)',
    { module: name, expected: `at most ${MAX_PLACES} numbers`, received: places },
  )
}
