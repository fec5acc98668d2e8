/**
 * Replaces GELU as exporters write it, x/2·(1 + erf(x/√2)) in five nodes, by one node. ONNX Runtime does the same before inference; in a training
 * graph it cannot, because the gradients of the five nodes read the values between them. One node keeps only x for the backward pass.
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
    node.opType === 'Erf' && node.domain === '' && active.has(node.inputs[0]) ? (findGelu(node) ?? []) : [],
  )
  if (found.length === 0) return
  if (!model.opsetImports.has(DOMAIN)) model.addOpsetImport(DOMAIN, 1)
  for (const { x, nodes, last } of found) {
    graph.replaceNode(last, [
      { name: last.name, opType: 'Gelu', domain: DOMAIN, inputs: [x], outputs: last.outputs },
    ])
    graph.removeNodes(nodes)
  }
}

interface Gelu {
  readonly x: string
  /** The node that writes the result. */
  readonly last: OnnxNode
  /** All nodes before the last one, in reverse order of execution. */
  readonly nodes: readonly OnnxNode[]
}

/** Follows the values from an `Erf` to the result, if nothing else reads them. */
function findGelu(erf: OnnxNode): Gelu | undefined {
  const { graph } = erf
  const scaling = graph.index.producers.get(erf.inputs[0])
  const x = scaling && scaledBy(scaling, Math.SQRT1_2)
  if (!x || onlyReader(graph, erf.inputs[0]) !== erf) return undefined
  const sum = onlyReader(graph, erf.outputs[0])
  if (sum?.opType !== 'Add' || !isConstant(graph, otherInput(sum, erf.outputs[0]), 1)) return undefined
  const product = onlyReader(graph, sum.outputs[0])
  const factor = product?.opType === 'Mul' ? otherInput(product, sum.outputs[0]) : undefined
  if (!product || !factor) return undefined
  const nodes = [sum, erf, scaling]
  const half = graph.index.producers.get(factor)
  if (half && half !== scaling && scaledBy(half, 0.5) === x && onlyReader(graph, factor) === product)
    return { x, last: product, nodes: [...nodes, half] }
  const last = onlyReader(graph, product.outputs[0])
  if (!last) return undefined
  const isComplete =
    factor === x
      ? scaledBy(last, 0.5) === product.outputs[0]
      : isConstant(graph, factor, 0.5) && last.opType === 'Mul' && otherInput(last, product.outputs[0]) === x
  return isComplete ? { x, last, nodes: [product, ...nodes] } : undefined
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
