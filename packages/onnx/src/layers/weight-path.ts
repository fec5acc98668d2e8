/**
 * Finds the constant weight of a product through the nodes that transpose, cast, copy or dequantise it. The package has no other search for
 * weights, so every layer that is found can also be read, baked and replaced.
 */
import type { OnnxGraph, OnnxNode } from '../model/graph.js'
import { constantOf } from '../model/names-in-scope.js'
import { DataType } from '../model/schema.js'
import type { OnnxTensor } from '../model/tensor.js'

/** A value, and the graph that defines it. */
export interface GraphValue {
  readonly graph: OnnxGraph
  readonly name: string
}

/** The constant that a product multiplies by, and everything between the two. */
export interface WeightPath {
  /** From the product's input to the constant, both included. */
  readonly values: readonly [GraphValue, ...GraphValue[]]
  /** The nodes between the values, from the product to the constant; the last one is the `Constant` if the weight is not an initializer. */
  readonly nodes: readonly OnnxNode[]
  /** The name and the graph of the constant. */
  readonly constant: GraphValue
  readonly tensor: OnnxTensor
  /** Whether the product reads the transpose of the constant. */
  readonly isTransposed: boolean
  /** The dims that the product reads. */
  readonly dims: readonly number[]
  /** Whether the constant is dequantised. */
  readonly isQuantised: boolean
  /** The type that the product reads, a number of `DataType`. */
  readonly dataType: number
}

/**
 * The largest number of nodes between a product and its constant. The limit ends the search in a broken file in which a value is computed
 * from itself.
 */
export const MAX_WEIGHT_NODES = 9

/** Operators whose output has the numbers of a weight in another layout or type. */
const WEIGHT_PREPROCESSING_OPS: ReadonlySet<string> = new Set([
  'Transpose',
  'Cast',
  'Identity',
  'DequantizeLinear',
])

/**
 * Follows a value to its constant. A name means the value of the innermost graph that defines it, as ONNX requires, so constants and nodes
 * of enclosing graphs are also found.
 *
 * @returns undefined if the value is computed in another way, or if more than {@link MAX_WEIGHT_NODES} nodes are between
 */
export function weightPath(graph: OnnxGraph, name: string): WeightPath | undefined {
  const values: GraphValue[] = []
  const nodes: OnnxNode[] = []
  for (let value = { graph, name }; nodes.length <= MAX_WEIGHT_NODES; ) {
    const definition = definitionOf(value.graph, value.name)
    if (!definition) return undefined
    const { graph: owner, tensor, producer } = definition
    const current = { graph: owner, name: value.name }
    values.push(current)
    if (tensor) return pathTo(tensor, current, values, nodes)
    if (!producer) return undefined
    nodes.push(producer)
    if (producer.opType === 'Constant') {
      const stored = producer.attribute('value')?.tensor
      return stored && pathTo(stored, current, values, nodes)
    }
    const [source] = producer.inputs
    if (!WEIGHT_PREPROCESSING_OPS.has(producer.opType) || !source) return undefined
    value = { graph: owner, name: source }
  }
  return undefined
}

interface Definition {
  readonly graph: OnnxGraph
  readonly tensor?: OnnxTensor | undefined
  readonly producer?: OnnxNode | undefined
}

function definitionOf(graph: OnnxGraph | undefined, name: string): Definition | undefined {
  for (let scope = graph; scope; scope = scope.parent) {
    const tensor = scope.initializers.get(name)
    if (tensor) return { graph: scope, tensor }
    const producer = scope.index.producers.get(name)
    if (producer) return { graph: scope, producer }
  }
  return undefined
}

function pathTo(
  tensor: OnnxTensor,
  constant: GraphValue,
  values: readonly GraphValue[],
  nodes: readonly OnnxNode[],
): WeightPath {
  const isTransposed = nodes.filter(({ opType }) => opType === 'Transpose').length % 2 === 1
  return {
    values: values as readonly [GraphValue, ...GraphValue[]],
    nodes,
    constant,
    tensor,
    isTransposed,
    dims: isTransposed ? tensor.dims.toReversed() : tensor.dims,
    isQuantised: nodes.some(({ opType }) => opType === 'DequantizeLinear'),
    dataType: outputDataType(nodes) ?? tensor.dataType,
  }
}

/** Returns the output type of the cast or dequantisation nearest to the product. The scales of a dequantisation have the type of its output. */
function outputDataType(nodes: readonly OnnxNode[]): number | undefined {
  for (const node of nodes) {
    const target = castTarget(node)
    if (target !== undefined) return target
    if (node.opType === 'DequantizeLinear')
      return constantOf(node.graph, node.inputs[1])?.dataType ?? DataType.float
  }
  return undefined
}

/** Returns the output type of a `Cast`; undefined for other nodes. */
export function castTarget(node: OnnxNode | undefined): number | undefined {
  const target = node?.opType === 'Cast' ? node.attribute('to')?.int : undefined
  return target === undefined ? undefined : Number(target)
}
