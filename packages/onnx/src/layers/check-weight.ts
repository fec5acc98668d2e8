/**
 * Checks that the size that a file declares for a layer's weight is plausible. Entries and tables are computed for that size, and a file with
 * broken dims must not cost hours or all memory.
 */
import { FourierFTError } from '@fourierft/core'
import { constantOf } from '../model/names-in-scope.js'
import type { LinearLayer } from './linear-layer.js'

/** Limits far above the size of any vocabulary and of any weight. */
const [MAX_FEATURES, MAX_NUMBERS] = [2 ** 24, 2 ** 33]
/** The smallest numbers have 4 bits. */
const MAX_PER_BYTE = 2

/** Checks the weight of a layer. @throws {FourierFTError} `SHAPE_MISMATCH` that names the tensor */
export function checkWeight({ graph, node, weight, outFeatures, inFeatures }: LinearLayer): void {
  const tensor = constantOf(graph, weight)
  const bytes = tensor?.external ? tensor.external.length : tensor?.data()?.length
  const limit = Math.min(MAX_NUMBERS, bytes === undefined ? Infinity : MAX_PER_BYTE * bytes)
  const sizes = [outFeatures, inFeatures]
  const isPossible = sizes.every((size) => Number.isInteger(size) && size > 0 && size <= MAX_FEATURES)
  if (isPossible && outFeatures * inFeatures <= limit) return
  const stored = bytes === undefined ? '' : `, but ${bytes} bytes are stored`
  throw new FourierFTError(
    'SHAPE_MISMATCH',
    `${graph.file}: tensor ${JSON.stringify(weight)} is declared as a weight of ${outFeatures}×${inFeatures} numbers for node ${JSON.stringify(node.name)}${stored}`,
    {
      file: graph.file,
      tensor: weight,
      expected: sizes,
      received: bytes,
      advice: 'export or download the model again',
    },
  )
}
