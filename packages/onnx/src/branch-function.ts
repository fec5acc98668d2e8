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
 * from opset 13 to today's.
 *
 * @see `groupedTransform` of `@fourierft/core` for the equations and the tables
 */
import { TABLE_NAMES } from './branch-tables.js'
import type { NewFunction } from './encode.js'
import { NodeList } from './node-list.js'

/** The operator set of the project. */
export const DOMAIN = 'fourierft'

/** The inputs of a `FourierFT` node. */
export const BRANCH_INPUTS = ['x', 'base', 'coefficients', 'rows', ...TABLE_NAMES] as const

/** @param opset the model's version of the standard operators, at least 13 */
export function branchFunction(opset: number): NewFunction {
  const nodes = new NodeList()
  const { add, constant } = nodes

  const zero = constant([0], [])
  const one = constant([1])
  const two = constant([2])
  const rest = constant([-1])

  // Nothing to do without adapters, and nothing that could be reshaped without tokens.
  const size = add('Mul', [add('Size', ['coefficients']), add('Size', ['x'])])
  const isIdle = add('Equal', [size, zero])

  const sizeOf = (table: string, axis: number) => add('Gather', [add('Shape', [table]), constant([axis])])
  const times = (a: string, b: string) => add('Mul', [a, b])
  const outer = sizeOf('w1', 1)
  const groups = sizeOf('m2', 0)
  const slots2 = sizeOf('m2', 1)
  const inner2 = sizeOf('m2', 2)
  const inner = add('Div', [inner2, two])
  const outerOut = sizeOf('w1i', 0)
  const groupsOut = sizeOf('n1', 0)
  const innerOut2 = sizeOf('n1', 1)
  const slotsOut2 = sizeOf('n1', 2)
  const innerOut = add('Div', [innerOut2, two])

  const branch = new NodeList('branch_')
  {
    const { add, reshape } = branch
    const matMul = (a: string, b: string) => add('MatMul', [a, b])
    const gather = (from: string, indices: string) => add('Gather', [from, indices])
    const transpose = (from: string) => add('Transpose', [from], { perm: { ints: [1, 0] } })

    const columns = reshape(transpose(reshape('x', [rest, times(outer, inner)])), [outer, rest])
    const groupSpectra = reshape(matMul('w1', columns), [groups, inner2, rest])
    const spectrum = reshape(matMul('m2', groupSpectra), [times(groups, slots2), rest])

    // [P, R]: for each row of the products its coefficient in each of the R adapters.
    const chosen = transpose(gather('coefficients', 'rows'))
    const weights = add('Mul', [gather(chosen, 'coefficient'), 'factors'])
    const width = add('Shape', ['gather'])
    const parts = add('Shape', ['rows'])
    const products = add('Mul', [
      reshape(gather(spectrum, 'gather'), [width, parts, rest]),
      reshape(weights, [width, parts, one]),
    ])

    const synthesis = matMul('n1', reshape(products, [groupsOut, slotsOut2, rest]))
    const rows = matMul('w1i', reshape(synthesis, [times(groupsOut, two), rest]))
    const tokens = transpose(reshape(rows, [times(outerOut, innerOut), rest]))
    const change = add('Reshape', [tokens, add('Shape', ['base'])])
    branch.named('sum', 'Add', ['base', change])
  }
  const idle = new NodeList('idle_')
  idle.named('same', 'Identity', ['base'])

  nodes.named('y', 'If', [isIdle], {
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
