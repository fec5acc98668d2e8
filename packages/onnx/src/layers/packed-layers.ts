/**
 * Products that several modules share: ONNX Runtime's tools pack q, k and v side by side into one weight. Each part is a separate layer,
 * because an adapter names one module. Parts are found if the graph contains their sizes; for other products the caller gives the sizes.
 */
import { FourierFTError } from '@fourierft/core'
import type { OnnxGraph, OnnxNode } from '../model/graph.js'
import type { OnnxModel } from '../model/model.js'
import { constantOf } from '../model/names-in-scope.js'
import { integersOf, type OnnxTensor } from '../model/tensor.js'
import { attentionNames } from './attention-names.js'
import { joinProducts } from './join-products.js'
import type { LinearLayer } from './linear-layer.js'
import { findLinearLayers } from './linear-layers.js'
import { moduleOfWeight } from './module-name.js'
import { joined, productsOf } from './products.js'
import { weightPath } from './weight-path.js'

const PARTS = ['q', 'k', 'v'] as const

/** The numbers of features of q, k and v. */
type PartSizes = readonly [q: number, k: number, v: number]

/**
 * Returns the parts q, k and v of all packed products. A packed product is a `com.microsoft` `Attention`, or a product whose only reader,
 * possibly after a bias, is a `com.microsoft` `GroupQueryAttention` or a `Split` into three.
 *
 * The parts of a module `….qkv_proj` are named `….q_proj` and so on. The parts of an `Attention` are named after the layers around it, if
 * these are conclusive. Other parts have no name; the map of `matchLayers` names them as `node:q`.
 */
export function findPackedLayers(model: OnnxModel): LinearLayer[] {
  const byGraph = new Map<OnnxGraph, LinearLayer[]>()
  const byInput = new Map<string, LinearLayer[]>()
  for (const layer of findLinearLayers(model)) {
    put(byGraph, layer.graph, layer)
    put(byInput, layer.input, layer)
  }
  const readersOf = ({ graph, outputs }: OnnxNode) =>
    (byInput.get(outputs[0] ?? '') ?? []).filter((layer) => layer.graph === graph)
  const parts = model.graph.graphs().flatMap((graph) => {
    const fromProducts = (byGraph.get(graph) ?? []).flatMap((layer) => {
      const sizes = sizesOf(layer)
      return sizes ? packedParts(layer, sizes) : []
    })
    const fromAttentions = graph.nodes.flatMap((node) => attentionParts(node, readersOf(node)))
    return [...fromProducts, ...fromAttentions]
  })
  return joinProducts(parts)
}

function put<Key>(lists: Map<Key, LinearLayer[]>, key: Key, layer: LinearLayer): void {
  const list = lists.get(key)
  if (list) list.push(layer)
  else lists.set(key, [layer])
}

/**
 * Returns the parts of a product whose output is q, k and v side by side.
 *
 * @throws {FourierFTError} `SHAPE_MISMATCH` if their sum is not the product's number of features
 */
export function packedParts(layer: LinearLayer, sizes: PartSizes): LinearLayer[] {
  const { outFeatures: width, node } = layer
  if (!sizes.every((size) => Number.isInteger(size) && size > 0) || sizes.reduce((a, b) => a + b) !== width)
    throw new FourierFTError(
      'SHAPE_MISMATCH',
      `${node.graph.file}, node ${JSON.stringify(node.name)}: expected ${width} features in q, k and v together; received ${sizes.join(', ')}`,
      { file: node.graph.file, expected: width, received: sizes },
    )
  const [q, k] = sizes
  const offsets = [0, q, q + k]
  return PARTS.map((name, i) =>
    joined(
      productsOf(layer).map((product) => ({
        ...product,
        module: product.module && partName(product.module, name),
        outFeatures: sizes[i],
        part: { name, offset: offsets[i], width },
      })),
    ),
  )
}

function partName(module: string, part: string): string | undefined {
  const match = /^(.*\.)?qkv(_proj)?(_\d+)?$/.exec(module)
  return match ? `${match[1] ?? ''}${part}${match[2] ?? ''}${match[3] ?? ''}` : undefined
}

function sizesOf(layer: LinearLayer): PartSizes | undefined {
  const reader = onlyReader(layer.outputNode)
  const consumer = reader?.opType === 'Add' ? onlyReader(reader) : reader
  const width = layer.outFeatures
  const sizes = consumer && (groupedSizes(consumer, width) ?? splitSizes(consumer, width))
  return sizes && sizes[0] + sizes[1] + sizes[2] === width ? sizes : undefined
}

function onlyReader({ graph, outputs }: OnnxNode): OnnxNode | undefined {
  const [reader, ...others] = graph.index.consumers.get(outputs[0] ?? '') ?? []
  return others.length === 0 ? reader : undefined
}

/** Returns the sizes of a grouped attention without key and value, whose query contains all three. @see GroupQueryAttention in ONNX Runtime's docs/ContribOperators.md */
function groupedSizes(node: OnnxNode, width: number): PartSizes | undefined {
  const [, key, value] = node.inputs
  if (node.domain !== 'com.microsoft' || node.opType !== 'GroupQueryAttention' || key || value)
    return undefined
  const { attributes } = node
  const heads = Number(attributes.get('num_heads')?.int ?? 0)
  const keyHeads = Number(attributes.get('kv_num_heads')?.int ?? 0)
  const size = width / (heads + 2 * keyHeads)
  return Number.isInteger(size) ? [heads * size, keyHeads * size, keyHeads * size] : undefined
}

/** Returns the sizes of a split into three along the last axis of `[batch, tokens, features]`. Since opset 13 the sizes are an input. */
function splitSizes(node: OnnxNode, width: number): PartSizes | undefined {
  const axis = node.attribute('axis')?.int ?? 0n
  if (node.opType !== 'Split' || node.outputs.length !== 3 || (axis !== -1n && axis !== 2n)) return undefined
  const [, sizeInput] = node.inputs
  const sizes = sizeInput ? shortVector(constantOf(node.graph, sizeInput)) : node.attribute('split')?.ints
  if (!sizes) return undefined
  return sizes.length === 0 ? thirds(width) : toSizes(sizes)
}

/** Returns the integers of a vector of at most three. Larger tensors cannot be the three sizes and are not read. */
function shortVector(tensor: OnnxTensor | undefined): readonly number[] | undefined {
  return tensor && tensor.dims.length === 1 && (tensor.dims[0] ?? 0) <= 3 ? integersOf(tensor) : undefined
}

/** Returns the parts of an `Attention`, whose weight is `[in, q + k + v]`. @see Attention in ONNX Runtime's docs/ContribOperators.md */
function attentionParts(node: OnnxNode, readers: readonly LinearLayer[]): LinearLayer[] {
  const { graph } = node
  const [input, w] = node.inputs
  const [output] = node.outputs
  if (node.domain !== 'com.microsoft' || node.opType !== 'Attention' || !input || !w || !output) return []
  const path = weightPath(graph, w)
  if (path?.dims.length !== 2) return []
  const weight = path.constant.name
  const [inFeatures = 0, outFeatures = 0] = path.dims
  const hiddenSizes = node.attribute('qkv_hidden_sizes')?.ints ?? []
  const sizes = hiddenSizes.length === 0 ? thirds(outFeatures) : toSizes(hiddenSizes)
  const layer = {
    module: moduleOfWeight(weight),
    graph,
    node,
    input,
    outputNode: node,
    weight,
    outFeatures,
    inFeatures,
  }
  if (!sizes) return []
  const names = attentionNames(output, readers)
  return packedParts(layer, sizes).map((part, i) => ({ ...part, module: names?.[i] ?? part.module }))
}

function thirds(width: number): PartSizes | undefined {
  return width % 3 === 0 ? [width / 3, width / 3, width / 3] : undefined
}

function toSizes(sizes: ArrayLike<bigint | number>): PartSizes | undefined {
  if (sizes.length !== 3) return undefined
  const [q = 0, k = 0, v = 0] = Array.from(sizes, Number)
  return q > 0 && k > 0 && v > 0 ? [q, k, v] : undefined
}
