/**
 * Replaces fused nodes by standard operators that compute the same, before a graph is differentiated: the standard operators have gradient
 * rules. Only the nodes through which a gradient passes are replaced.
 */
import type { OnnxNode } from '../../model/graph.js'
import type { OnnxModel } from '../../model/model.js'
import { Analysis } from '../../shapes/batch-axis.js'
import { Backward } from '../backward.js'
import { operatorName } from '../gradient-rules.js'
import { unfoldOnnxAttention } from './attention.js'
import { unfoldGroupQueryAttention } from './group-query-attention.js'
import { unfoldAttention, unfoldMultiHeadAttention } from './multi-head-attention.js'
import { unfoldMicrosoftRotaryEmbedding, unfoldRotaryEmbedding } from './rotary-embedding.js'
import { type Unfold, Unfolding } from './unfolding.js'

/** The fused operators, named as in the table of the gradient rules. */
export const UNFOLDED_OPERATORS: ReadonlyMap<string, Unfold> = new Map([
  ['Attention', unfoldOnnxAttention],
  ['RotaryEmbedding', unfoldRotaryEmbedding],
  ['com.microsoft:Attention', unfoldAttention],
  ['com.microsoft:MultiHeadAttention', unfoldMultiHeadAttention],
  ['com.microsoft:GroupQueryAttention', unfoldGroupQueryAttention],
  ['com.microsoft:RotaryEmbedding', unfoldMicrosoftRotaryEmbedding],
])

export interface UnfoldFusedOptions {
  /** The values that depend on the targets. */
  readonly active: ReadonlySet<string>
  /** The values that the loss reads. */
  readonly seeds: Iterable<string>
}

/**
 * Replaces the fused nodes of the main graph between the active values and the seeds.
 *
 * @throws {FourierFTError} `UNSUPPORTED` for a form of an operator that is not covered; the message names the node
 */
export function unfoldFused(model: OnnxModel, { active, seeds }: UnfoldFusedOptions): void {
  const { graph } = model
  const fused = graph.nodes.filter((node) => UNFOLDED_OPERATORS.has(operatorName(node)))
  if (fused.length === 0) return
  const needed = nodesBefore(model, active, seeds)
  const nodes = fused.filter((node) => needed.has(node))
  if (nodes.length === 0) return
  const opset = model.opsetImports.get('') ?? 0
  const values = new Backward(graph, { analysis: new Analysis(model), opset, target: '' })
  const shared = new Map<string, string>()
  const replacements = nodes.map((node) => {
    const unfolding = new Unfolding(node, { values, shared })
    UNFOLDED_OPERATORS.get(operatorName(node))?.(unfolding)
    return [node, unfolding.nodes] as const
  })
  for (const [node, replacement] of replacements) graph.replaceNode(node, replacement)
}

/** The nodes that the seeds depend on by way of active values. */
function nodesBefore(
  { graph }: OnnxModel,
  active: ReadonlySet<string>,
  seeds: Iterable<string>,
): ReadonlySet<OnnxNode> {
  const found = new Set<OnnxNode>()
  const values = [...seeds]
  for (let value = values.pop(); value !== undefined; value = values.pop()) {
    const node = active.has(value) ? graph.index.producers.get(value) : undefined
    if (!node || found.has(node)) continue
    found.add(node)
    values.push(...node.inputs, ...node.subgraphs.flatMap((inner) => [...inner.namesRead()]))
  }
  return found
}
