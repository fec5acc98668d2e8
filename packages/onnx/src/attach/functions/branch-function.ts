/**
 * `FourierFT` as a model-local function of standard operators, for runtimes without the native operator. One function serves layers of every
 * shape: it computes sizes from the tables, which are constants, so runtimes fold these computations when they load the model.
 *
 *     FourierFT(x [..., d2], base [..., d1], coefficients [A, n], rows [R], entries, w1, …) → y = base + Δy [..., d1]
 *
 * Coefficients are multiplied by α. Row r of R names the adapter of the r-th of R equal parts of the tokens; −1 means no
 * adapter: it selects the last row of the coefficients, which must then be zero. Without adapters (A = 0) y is the base, bit for bit.
 *
 * Runtimes inline the body under the opset of the model, whatever the function declares. It therefore uses only operators that have not
 * changed since opset 11.
 *
 * @see `groupedTransform` of `@fourierft/core` for the equations and the tables
 */

import type { NewFunction } from '../../model/encode.js'
import { NodeList } from '../../model/node-list.js'
import { TABLE_NAMES } from './branch-tables.js'
import { addInactiveCheck, analysisNodes, synthesisNodes } from './transform-nodes.js'

/** The operator set of this project, and the prefix of the names that attaching adds to a model. */
export const DOMAIN = 'fourierft'

/** The inputs of a `FourierFT` node. */
export const BRANCH_INPUTS = ['x', 'base', 'coefficients', 'rows', ...TABLE_NAMES] as const

/**
 * Adds the indices of all rows of a tensor. `ScatterND` with them replaces the whole tensor and keeps its shape, which runtimes infer; a shape
 * that the graph computes would be unknown to them. So they fuse the operators after the branch as in the base model, and round as it does.
 */
function everyRow({ add, constant }: NodeList, tensor: string): string {
  const count = add('Gather', [add('Shape', [tensor]), constant([0], [])])
  return add('Reshape', [add('Range', [constant([0], []), count, constant([1], [])]), constant([-1, 1])])
}

/** @param opset the model's version of the standard operators, at least 11 */
export function branchFunction(opset: number): NewFunction {
  const nodes = new NodeList()
  const isInactive = addInactiveCheck(nodes, 'coefficients', 'x')
  const analyse = analysisNodes(nodes, '')
  const synthesise = synthesisNodes(nodes, '')

  const branch = new NodeList('branch_')
  const gathered = branch.add('Gather', [analyse(branch, 'x'), 'gather'])
  const tokens = synthesise(branch, gathered, 'coefficients', 'rows')
  const change = branch.add('Reshape', [tokens, branch.add('Shape', ['base'])])
  branch.named(['sum'], 'ScatterND', ['base', everyRow(branch, 'base'), branch.add('Add', ['base', change])])

  const inactive = new NodeList('idle_')
  inactive.named(['same'], 'Identity', ['base'])

  nodes.named(['y'], 'If', [isInactive], {
    then_branch: { graph: { name: 'idle', nodes: inactive.nodes, outputs: [{ name: 'same' }] } },
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
