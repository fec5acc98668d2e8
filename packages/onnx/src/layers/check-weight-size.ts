/**
 * Whether the size that a file claims for a layer's weight can be true. Entries and tables are made for that size: a file whose dims are
 * broken must not cost hours or all memory.
 */
import { FourierFTError } from '@fourierft/core'
import { constantOf } from '../model/names-in-scope.js'
import type { LinearLayer } from './linear-layer.js'

/** Far beyond any vocabulary, and any weight. */
const [MOST_FEATURES, MOST_NUMBERS] = [2 ** 24, 2 ** 33]
/** 4-bit numbers are the smallest. */
const MOST_PER_BYTE = 2

/** @throws {FourierFTError} `SHAPE_MISMATCH` that names the tensor */
export function checkWeight({ graph, node, weight, outFeatures, inFeatures }: LinearLayer): void {
  const tensor = constantOf(graph, weight)
  const bytes = tensor?.external ? tensor.external.length : tensor?.data()?.length
  const most = Math.min(MOST_NUMBERS, bytes === undefined ? Infinity : MOST_PER_BYTE * bytes)
  const sizes = [outFeatures, inFeatures]
  const isPossible = sizes.every((size) => Number.isInteger(size) && size > 0 && size <= MOST_FEATURES)
  if (isPossible && outFeatures * inFeatures <= most) return
  const stored = bytes === undefined ? '' : `, but ${bytes} bytes are stored`
  throw new FourierFTError(
    'SHAPE_MISMATCH',
    `${graph.file}: tensor ${JSON.stringify(weight)} is to be a weight of ${outFeatures}×${inFeatures} numbers for node ${JSON.stringify(node.name)}${stored}. Export or download the model again.`,
    { file: graph.file, tensor: weight, expected: sizes, received: bytes },
  )
}
