/**
 * Infers what is known about an operator's outputs: their dims, and the integers with which graphs compute shapes. The outputs of an operator
 * that is not in the tables are unknown, so a missing operator costs information but never gives a wrong answer. To add an operator, add it to the
 * table of its family in `operators/`.
 *
 * @see ONNX's docs/Operators.md and ONNX Runtime's docs/ContribOperators.md
 */
import { MAX_DIMS } from './dims.js'
import { type InferOutputs, type KnownValue, NOTHING, type OperatorCall } from './known-value.js'
import { ELEMENTWISE } from './operators/elementwise.js'
import { GENERATORS } from './operators/generators.js'
import { IMAGES } from './operators/images.js'
import { MATRIX_PRODUCTS } from './operators/matrix-products.js'
import { REDUCTIONS } from './operators/reductions.js'
import { RESHAPING } from './operators/reshaping.js'
import { SEQUENCE_LAYERS } from './operators/sequence-layers.js'
import { SLICING } from './operators/slicing.js'

const OPERATORS: ReadonlyMap<string, InferOutputs> = new Map([
  ...ELEMENTWISE,
  ...MATRIX_PRODUCTS,
  ...RESHAPING,
  ...SLICING,
  ...GENERATORS,
  ...REDUCTIONS,
  ...IMAGES,
  ...SEQUENCE_LAYERS,
])

/** @returns what is known about each output; unknown outputs may be missing */
export function inferDims(call: OperatorCall): readonly KnownValue[] {
  const { node } = call
  const domain = node.domain === 'com.microsoft' || node.domain === '' ? '' : `${node.domain}:`
  const infer = OPERATORS.get(domain + node.opType)
  return (infer?.(call) ?? []).map((known) => ((known.dims?.length ?? 0) > MAX_DIMS ? NOTHING : known))
}
