/**
 * `FourierFT` as a model-local function of standard operators: what runs where the native operator is not there. One function serves layers
 * of every shape: sizes are those of the tables, which are constants, so that runtimes fold them when they load the model.
 *
 *     FourierFT(x [..., d2], base [..., d1], coefficients [A, n], rows [R], entries, w1, …) → y = base + Δy [..., d1]
 *
 * Coefficients carry α. Row r of R names the adapter of the r-th of R equal parts of the tokens; −1 is the last row of the coefficients,
 * which is zero then. Without adapters (A = 0) y has the base's bits.
 *
 * Runtimes inline the body under the opset of the model, whatever a function declares; so only operators serve whose form has not changed
 * from opset 11 to today's.
 *
 * @see `groupedTransform` of `@fourierft/core` for the equations and the tables
 */

import type { NewFunction } from '../../model/encode.js'
import { NodeList } from '../../model/node-list.js'
import { TABLE_NAMES } from './branch-tables.js'
import { analysisNodes, isIdle, synthesisNodes } from './transform-nodes.js'

/** The operator set of the project. */
export const DOMAIN = 'fourierft'

/** The inputs of a `FourierFT` node. */
export const BRANCH_INPUTS = ['x', 'base', 'coefficients', 'rows', ...TABLE_NAMES] as const

/**
 * Indices of all rows of a tensor. Written there, a tensor of the same shape takes the place of it, and who infers shapes sees the shape of
 * the first: what stands behind the branch is fused as in the base model, whose rounding depends on that. Shapes that are computed would be
 * unknown to them.
 */
function everyRow({ add, constant }: NodeList, tensor: string): string {
  const count = add('Gather', [add('Shape', [tensor]), constant([0], [])])
  return add('Reshape', [add('Range', [constant([0], []), count, constant([1], [])]), constant([-1, 1])])
}

/** @param opset the model's version of the standard operators, at least 11 */
export function branchFunction(opset: number): NewFunction {
  const nodes = new NodeList()
  const idleNow = isIdle(nodes, 'coefficients', 'x')
  const analyse = analysisNodes(nodes, '')
  const synthesise = synthesisNodes(nodes, '')

  const branch = new NodeList('branch_')
  const gathered = branch.add('Gather', [analyse(branch, 'x'), 'gather'])
  const tokens = synthesise(branch, gathered, 'coefficients', 'rows')
  const change = branch.add('Reshape', [tokens, branch.add('Shape', ['base'])])
  branch.named(['sum'], 'ScatterND', ['base', everyRow(branch, 'base'), branch.add('Add', ['base', change])])

  const idle = new NodeList('idle_')
  idle.named(['same'], 'Identity', ['base'])

  nodes.named(['y'], 'If', [idleNow], {
    then_branch: { graph: { name: 'idle', nodes: idle.nodes, outputs: [{ name: 'same' }] } },
    else_branch: { graph: { name: 'branch', nodes: branch.nodes, outputs: [{ name: 'sum' }] } },
  })
  return {
    domain: DOMAIN,
    name: 'FourierFT',
    inputs: BRANCH_INPUTS,
    outputs: ['y'],
    nodes: nodes.nodes,
    opsetImports: new Map([['', opset]]),
  }
}
