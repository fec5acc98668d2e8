/**
 * The gradient rule of each operator, and the operators that carry no gradient. To add an operator, add it to the table of its family in
 * `rules/`.
 */
import type { OnnxNode } from '../model/graph.js'
import type { GradientRule, RuleTable } from './rule.js'
import { ACTIVATION_RULES } from './rules/activations.js'
import { BRANCH_RULES } from './rules/branches.js'
import { ELEMENTWISE_RULES } from './rules/elementwise.js'
import { IMAGE_RULES } from './rules/images.js'
import { MATRIX_PRODUCT_RULES } from './rules/matrix-products.js'
import { NORMALISATION_RULES } from './rules/normalisation.js'
import { QUANTISED_RULES } from './rules/quantised.js'
import { REDUCTION_RULES } from './rules/reductions.js'
import { RESHAPING_RULES } from './rules/reshaping.js'
import { SLICING_RULES } from './rules/slicing.js'

/** The tables by family. */
export const RULE_FAMILIES: Readonly<Record<string, RuleTable>> = {
  arithmetic: ELEMENTWISE_RULES,
  activations: ACTIVATION_RULES,
  'matrix products': MATRIX_PRODUCT_RULES,
  'normalisations and softmax': NORMALISATION_RULES,
  reductions: REDUCTION_RULES,
  reshaping: RESHAPING_RULES,
  'slicing and joining': SLICING_RULES,
  images: IMAGE_RULES,
  quantisation: QUANTISED_RULES,
  branches: BRANCH_RULES,
}

export const GRADIENT_RULES: ReadonlyMap<string, GradientRule> = new Map(Object.values(RULE_FAMILIES).flat())

/** Operators whose results are integers, Booleans or constant almost everywhere: no gradient passes through them. */
const CONSTANT_OPERATORS: ReadonlySet<string> = new Set(
  `Shape Size Equal Greater GreaterOrEqual Less LessOrEqual And Or Xor Not IsNaN IsInf ArgMax ArgMin NonZero OneHot Sign Floor Ceil
   Round ConstantOfShape Range RandomNormalLike RandomUniformLike EyeLike Hardmax BitShift BitwiseAnd BitwiseOr BitwiseXor
   BitwiseNot`
    .trim()
    .split(/\s+/),
)

/** The operator's name in the tables. */
export function operatorName({ domain, opType }: OnnxNode): string {
  return domain === '' ? opType : `${domain}:${opType}`
}

export function isConstantOperator(node: OnnxNode): boolean {
  return node.domain === '' && CONSTANT_OPERATORS.has(node.opType)
}
