/**
 * Replaces GELU as exporters write it by one node: x/2·(1 + erf(x/√2)), and its approximation x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))). ONNX Runtime
 * does the same before inference; in a training graph it cannot, because the gradients of the nodes read the values between them. One node keeps
 * only x for the backward pass.
 */
import type { OnnxGraph, OnnxNode } from '../../model/graph.js'
import type { OnnxModel } from '../../model/model.js'
import { constantOf } from '../../model/names-in-scope.js'
import { DataType } from '../../model/schema.js'

const DOMAIN = 'com.microsoft'

/** @param active the values that depend on the targets; other nodes stay as they are */
export function foldGelu(model: OnnxModel, active: ReadonlySet<string>): void {
  const { graph } = model
  const found = graph.nodes.flatMap((node) =>
    (node.opType === 'Erf' || node.opType === 'Tanh') && node.domain === '' && active.has(node.inputs[0])
      ? (findGelu(node) ?? [])
      : [],
  )
  if (found.length === 0) return
  if (!model.opsetImports.has(DOMAIN)) model.addOpsetImport(DOMAIN, 1)
  for (const { opType, x, nodes, last } of found) {
    graph.replaceNode(last, [{ name: last.name, opType, domain: DOMAIN, inputs: [x], outputs: last.outputs }])
    graph.removeNodes(nodes)
  }
}

/** The argument of the function, and the nodes that compute it from x, in reverse order of execution. */
interface Argument {
  readonly x: string
  readonly nodes: readonly OnnxNode[]
}

interface Gelu extends Argument {
  readonly opType: 'Gelu' | 'FastGelu'
  /** The node that writes the result; it is not among the others. */
  readonly last: OnnxNode
}

/** Follows the values from an `Erf` or a `Tanh` to the result, if nothing else reads them. */
function findGelu(node: OnnxNode): Gelu | undefined {
  const { graph, outputs } = node
  const argument = node.opType === 'Erf' ? erfArgument(node) : tanhArgument(node)
  const sum = onlyReader(graph, outputs[0])
  if (!argument || sum?.opType !== 'Add' || !isConstant(graph, otherInput(sum, outputs[0]), 1))
    return undefined
  const product = onlyReader(graph, sum.outputs[0])
  const factor = product?.opType === 'Mul' ? otherInput(product, sum.outputs[0]) : undefined
  if (!product || !factor) return undefined
  const { x } = argument
  const opType = node.opType === 'Erf' ? 'Gelu' : 'FastGelu'
  const nodes = [sum, node, ...argument.nodes]
  const half = graph.index.producers.get(factor)
  if (half && scaledBy(half, 0.5) === x && onlyReader(graph, factor) === product)
    return { opType, x, last: product, nodes: [...nodes, half] }
  const last = onlyReader(graph, product.outputs[0])
  if (!last) return undefined
  const isComplete =
    factor === x
      ? scaledBy(last, 0.5) === product.outputs[0]
      : isConstant(graph, factor, 0.5) && last.opType === 'Mul' && otherInput(last, product.outputs[0]) === x
  return isComplete ? { opType, x, last, nodes: [product, ...nodes] } : undefined
}

/** x/√2 */
function erfArgument(erf: OnnxNode): Argument | undefined {
  const scaling = innerNode(erf, erf.inputs[0])
  const x = scaling && scaledBy(scaling, Math.SQRT1_2)
  return x ? { x, nodes: [scaling] } : undefined
}

/** √(2/π)·(x + 0.044715·x³), with `Pow` or products. */
function tanhArgument(tanh: OnnxNode): Argument | undefined {
  const scaling = innerNode(tanh, tanh.inputs[0])
  const inner = scaling && scaledBy(scaling, Math.sqrt(2 / Math.PI))
  const sum = inner ? innerNode(scaling, inner) : undefined
  if (!scaling || sum?.opType !== 'Add') return undefined
  for (const [x, scaled] of [sum.inputs, sum.inputs.toReversed()]) {
    const term = innerNode(sum, scaled)
    const power = term && scaledBy(term, 0.044715)
    const cube = power ? innerNode(term, power) : undefined
    const nodes = cube && nodesOfCube(cube, x)
    if (term && nodes) return { x, nodes: [scaling, sum, term, ...nodes] }
  }
  return undefined
}

function nodesOfCube(cube: OnnxNode, x: string): readonly OnnxNode[] | undefined {
  const { graph, opType, inputs } = cube
  if (opType === 'Pow') return inputs[0] === x && isConstant(graph, inputs[1], 3) ? [cube] : undefined
  const other = opType === 'Mul' && inputs.includes(x) ? otherInput(cube, x) : undefined
  const square = other === undefined ? undefined : innerNode(cube, other)
  return square?.opType === 'Mul' && square.inputs.every((input) => input === x) ? [cube, square] : undefined
}

/** The node that writes the value, if only the given node reads it. */
function innerNode(reader: OnnxNode, value: string): OnnxNode | undefined {
  const { graph } = reader
  return onlyReader(graph, value) === reader ? graph.index.producers.get(value) : undefined
}

/** The node that reads the value, if it is the only one. */
function onlyReader(graph: OnnxGraph, value: string): OnnxNode | undefined {
  const readers = graph.consumersOf(value)
  const [reader] = readers
  return readers.length === 1 && reader.graph === graph && !graph.isOutput(value) ? reader : undefined
}

/** The value that the node multiplies by a constant factor, or divides by its reciprocal. */
function scaledBy({ graph, opType, inputs: [a, b] }: OnnxNode, factor: number): string | undefined {
  if (opType === 'Div') return isConstant(graph, b, 1 / factor) ? a : undefined
  if (opType !== 'Mul') return undefined
  if (isConstant(graph, b, factor)) return a
  return isConstant(graph, a, factor) ? b : undefined
}

/** The other input of a node of two inputs; undefined if both are the value. */
function otherInput({ inputs: [a, b] }: OnnxNode, value: string): string | undefined {
  if (a === b) return undefined
  return a === value ? b : a
}

/** Whether the value is one float32 number, near the given one. */
function isConstant(graph: OnnxGraph, name: string | undefined, expected: number): boolean {
  const tensor = constantOf(graph, name)
  const data = tensor?.dataType === DataType.float ? tensor.data() : undefined
  if (data?.byteLength !== 4) return false
  const value = new DataView(data.buffer, data.byteOffset).getFloat32(0, true)
  return Math.abs(value - expected) <= 1e-6 * expected
}
