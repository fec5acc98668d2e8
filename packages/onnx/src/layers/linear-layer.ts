/** The type of a linear layer of a model, as `findLinearLayers` and `findPackedLayers` return it. */
import type { OnnxGraph, OnnxNode } from '../model/graph.js'

/** One linear layer. A branch reads `input` and is added to output 0 of `outputNode`. That output includes the bias, or a later node adds it. */
export interface LinearLayer {
  /** The dotted name of its PyTorch module, root segment included; undefined if it cannot be recovered from the file. */
  readonly module: string | undefined
  readonly graph: OnnxGraph
  /** The product: MatMul, Gemm, MatMulNBits, MatMulBnb4, MatMulInteger, or an Attention that multiplies by a packed weight. */
  readonly node: OnnxNode
  /** The float value that the layer reads, before the layer's own quantisation. */
  readonly input: string
  /** The node with the float output, after it is scaled or dequantised. */
  readonly outputNode: OnnxNode
  /** The name of the constant weight in the file. */
  readonly weight: string
  /** d1. */
  readonly outFeatures: number
  /** d2. */
  readonly inFeatures: number
  /** If several modules share the product: the features of the output that belong to this one. */
  readonly part?: PackedPart
  /** The module's further products, if the model calls it more than once. Every change to the layer is also made to them. */
  readonly others?: readonly LinearLayer[]
  /** Nodes that may be further products of the same module; this cannot be decided from the file. */
  readonly undecided?: readonly string[]
}

/** Consecutive features of a packed product's output. */
export interface PackedPart {
  readonly name: 'q' | 'k' | 'v'
  /** The index of its first feature. */
  readonly offset: number
  /** The number of features of the whole product. */
  readonly width: number
}

/** Returns whether two layers of one node share features of its output. */
export function overlap(a: LinearLayer, b: LinearLayer): boolean {
  const [start, otherStart] = [a.part?.offset ?? 0, b.part?.offset ?? 0]
  return start < otherStart + b.outFeatures && otherStart < start + a.outFeatures
}
