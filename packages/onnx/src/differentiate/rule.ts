/** What a gradient rule is: from the gradients of a node's outputs to those of its inputs. */
import { FourierFTError } from '@fourierft/core'
import type { OnnxNode } from '../model/graph.js'
import type { Backward } from './backward.js'

/** A node of the forward graph that the loss depends on. */
export interface RuleCall {
  readonly node: OnnxNode
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  /** ∂L/∂output by output, in its shape; undefined for outputs that the loss does not depend on. At least one is defined. */
  readonly gradients: readonly (string | undefined)[]
  /** ∂L/∂output of the first output. For operators with one output. */
  readonly gradient: string
  /** Whether the gradient of an input is wanted. */
  needs(input: number): boolean
  /** Receives the new nodes. */
  readonly backward: Backward
}

/** A value, or a function that adds nodes which add the gradient to a value of its shape, and returns the sum. */
export type GradientPart = string | ((base: string) => string)

/** ∂L/∂input by input, in the input's shape. A node is rejected if the gradient of a number that needs one is missing or undefined. */
export type RuleResult = readonly (GradientPart | undefined)[]

/**
 * Writes the nodes that compute the gradients of a node's inputs.
 *
 * @throws {FourierFTError} `UNSUPPORTED` for a form of the operator that the rule does not cover
 */
export type GradientRule = (call: RuleCall) => RuleResult

/** Operators by name, with the domain before it unless that is ONNX's own. */
export type RuleTable = readonly (readonly [operator: string, rule: GradientRule])[]

/** Entries of a table for several operators; `names` are separated by white space. */
export function rulesFor(names: string, rule: GradientRule): RuleTable {
  return names
    .trim()
    .split(/\s+/)
    .map((name) => [name, rule])
}

/** An attribute that is an integer. */
export function integerOf(node: OnnxNode, name: string, missing: number): number {
  const value = node.attribute(name)?.int
  return value === undefined ? missing : Number(value)
}

/** An attribute that is a number. */
export function floatOf(node: OnnxNode, name: string, missing: number): number {
  return node.attribute(name)?.float ?? missing
}

/** The axis as an index from the first one. */
export function axisFromStart(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis
}

/** The error for a form of an operator that its rule does not cover. @param problem continues a sentence that begins with the node */
export function unsupportedForm({ node, backward }: RuleCall, problem: string): FourierFTError {
  const { file } = backward.graph
  return new FourierFTError(
    'UNSUPPORTED',
    `${file}: node ${JSON.stringify(node.name)} (${node.opType}) ${problem}, and has no gradient rule for that`,
    { file, received: node.opType },
  )
}
