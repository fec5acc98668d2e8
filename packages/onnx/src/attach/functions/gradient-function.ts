/**
 * `FourierFTGrad` as a model-local function of standard operators, for runtimes without the native operator. Like `FourierFT`, one function
 * serves layers of every shape.
 *
 *     FourierFTGrad(x [..., d2], grad_y [..., d1], base [..., d2], coefficients [A, n], rows [R], entries, w1, …)
 *       → grad_coefficients [A, n], grad_x [..., d2]
 *
 * `grad_x` is base + ΔWᵀ grad_y: the base is the gradient of `x` from everything else that reads `x`, so that the native operator adds in place. The coefficients are multiplied by α, so
 * `grad_coefficients` is ∂L/∂(α·c), and ∂L/∂c is α times that. Row r of R names the adapter of the r-th of R equal parts of the tokens. −1
 * means no adapter: it selects the last row of the coefficients, which must then be zero. Its tokens add to no adapter's gradient. Without adapters (A = 0) or tokens
 * `grad_coefficients` is zero and `grad_x` is the base.
 *
 * Runtimes inline the body under the opset of the model. Its operators have not changed since opset 11, except `ReduceSum`, which is
 * written as the opset requires. Scatter operators are avoided: those of ONNX Runtime lose sums if several threads add to one number.
 *
 * @see `groupedTransform` of `@fourierft/core` for the equations and the tables
 */

import type { NewFunction } from '../../model/encode.js'
import { NodeList } from '../../model/node-list.js'
import { DataType } from '../../model/schema.js'
import { DOMAIN } from './branch-function.js'
import { GRADIENT_TABLE_NAMES } from './branch-tables.js'
import { addInactiveCheck, analysisNodes, synthesisNodes } from './transform-nodes.js'

/** The inputs of a `FourierFTGrad` node. */
export const GRADIENT_INPUTS = [
  'x',
  'grad_y',
  'base',
  'coefficients',
  'rows',
  ...GRADIENT_TABLE_NAMES,
] as const

/** The first opset in which the axes of `ReduceSum` are an input. */
const AXES_AS_INPUT = 13

/** @param opset the model's version of the standard operators, at least 11 */
export function gradientFunction(opset: number): NewFunction {
  const nodes = new NodeList()
  const { constant } = nodes
  const isInactive = addInactiveCheck(nodes, 'coefficients', 'x')
  const analyseX = analysisNodes(nodes, '')
  const analyseGradient = analysisNodes(nodes, 'transposed_')
  const synthesise = synthesisNodes(nodes, 'transposed_')
  const zero = constant([0], [])
  const one = constant([1], [])
  const rowCount = nodes.add('Shape', ['partner'])
  const rest = constant([-1])
  const oneColumn = constant([-1, 1])
  const last = constant([2])

  const gradient = new NodeList('gradient_')
  {
    const { add, named, reshape } = gradient
    const shapeOf = (tensor: string) => add('Shape', [tensor])
    /** Adds a sum over the last of three axes. */
    const sum = (tensor: string) =>
      opset < AXES_AS_INPUT
        ? add('ReduceSum', [tensor], { axes: { ints: [2] }, keepdims: { int: 0 } })
        : add('ReduceSum', [tensor, last], { keepdims: { int: 0 } })

    // Both are in the order of the products with the coefficients: [P, T].
    const gradientRows = add('Gather', [analyseGradient(gradient, 'grad_y'), 'transposed_gather'])
    const xRows = add('Gather', [analyseX(gradient, 'x'), 'partner'])

    const tokens = synthesise(gradient, gradientRows, 'coefficients', 'rows')
    named(['active_grad_x'], 'Add', ['base', add('Reshape', [tokens, shapeOf('x')])])

    // Sums over the tokens of each part, [P, R], then over the parts of each adapter, [P, A].
    const parts = sum(reshape(add('Mul', [gradientRows, xRows]), [rowCount, shapeOf('rows'), rest]))
    const adapterCount = add('Gather', [shapeOf('coefficients'), zero])
    const chosen = add('Equal', [
      add('Reshape', ['rows', oneColumn]),
      add('Range', [zero, adapterCount, one]),
    ])
    const oneHot = add('Cast', [chosen], { to: { int: DataType.float } })
    const adapters = add('Mul', [add('MatMul', [parts, oneHot]), 'partner_factors'])
    const gatherRows = (rows: string) => add('Gather', [adapters, rows])
    const entries = add('Add', [gatherRows('real'), gatherRows('imaginary')])
    named(['active_grad_coefficients'], 'Transpose', [entries], { perm: { ints: [1, 0] } })
  }
  const inactive = new NodeList('idle_')
  inactive.named(['idle_grad_coefficients'], 'ConstantOfShape', [inactive.add('Shape', ['coefficients'])])
  inactive.named(['idle_grad_x'], 'Identity', ['base'])

  const outputs = ['grad_coefficients', 'grad_x']
  const graphOf = (name: string, list: NodeList) => ({
    graph: { name, nodes: list.nodes, outputs: outputs.map((output) => ({ name: `${name}_${output}` })) },
  })
  nodes.named(outputs, 'If', [isInactive], {
    then_branch: graphOf('idle', inactive),
    else_branch: graphOf('active', gradient),
  })
  return {
    domain: DOMAIN,
    name: 'FourierFTGrad',
    inputs: GRADIENT_INPUTS,
    outputs,
    nodes: nodes.nodes,
    opsetImports: new Map([['', opset]]),
  }
}
