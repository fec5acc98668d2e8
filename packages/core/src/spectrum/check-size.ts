/**
 * The largest layer that the transforms of this package accept. A shape may come from an untrusted file, and a transform of a length with
 * a large prime factor needs tables of ten times the length and blocks the thread for seconds.
 */
import type { Layer } from '../adapter/layer.js'
import type { Shape } from '../entries/entries.js'
import { FourierFTError } from '../errors.js'

/** Most rows or columns: twice the largest vocabulary of today's models. Preparing a transform for a prime near it takes about a second. */
export const MAX_LENGTH = 2 ** 19
/** Most elements of one ΔW: 8 GiB in float32. */
const MAX_ELEMENTS = 2 ** 31 - 1

/** Checks the shape of a layer. @throws {FourierFTError} `UNSUPPORTED` for more than 2¹⁹ rows or columns */
export function checkLengths(shape: Shape, module?: string): void {
  if (shape[0] <= MAX_LENGTH && shape[1] <= MAX_LENGTH) return
  throw new FourierFTError(
    'UNSUPPORTED',
    `${module === undefined ? '' : `module ${module}: `}expected at most ${MAX_LENGTH} rows and as many columns; received the ` +
      `shape [${shape.join(', ')}]`,
    { ...(module !== undefined && { module }), expected: `at most ${MAX_LENGTH}`, received: shape },
  )
}

/**
 * Allocates a ΔW of zeros.
 *
 * @throws {FourierFTError} `UNSUPPORTED` if it has 2³¹ elements or more, or does not fit into memory
 */
export function allocateDelta({ name, shape }: Pick<Layer, 'name' | 'shape'>): Float32Array {
  const elements = shape[0] * shape[1]
  try {
    if (elements <= MAX_ELEMENTS) return new Float32Array(elements)
  } catch {
    // Out of memory: the same error as for a ΔW with too many elements.
  }
  throw new FourierFTError(
    'UNSUPPORTED',
    `module ${name}: its ΔW of shape [${shape.join(', ')}] has ${elements} elements, which do not fit into memory`,
    {
      advice: 'apply the adapter without forming ΔW (addForward)',
      module: name,
      expected: `at most ${MAX_ELEMENTS} elements`,
      received: elements,
    },
  )
}
