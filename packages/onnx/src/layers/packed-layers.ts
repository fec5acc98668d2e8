/**
 * Products that are several modules at once: q, k and v side by side in one weight, as ONNX Runtime's tools pack them. Each part is a
 * layer of its own, which an adapter of one module means. Only what a graph says itself is found; for all else the sizes are given.
 */
import { FourierFTError } from '@fourierft/core'
import type { OnnxGraph, OnnxNode } from '../model/graph.js'
import type { OnnxModel } from '../model/model.js'
import { constantOf } from '../model/names-in-scope.js'
import { integersOf, type OnnxTensor } from '../model/tensor.js'
import { attentionNames } from './attention-names.js'
import type { LinearLayer } from './linear-layer.js'
import { findLinearLayers } from './linear-layers.js'
import { moduleOfWeight } from './module-name.js'
import { joined, joinProducts, productsOf } from './products.js'
import { weightPath } from './weight-path.js'

const PARTS = ['q', 'k', 'v'] as const

type Sizes = readonly [q: number, k: number, v: number]

/**
 * The parts q, k and v of all packed products: of products whose output goes, a bias added, into a `com.microsoft`
 * `GroupQueryAttention` alone or into a `Split` in three, and of `com.microsoft` `Attention`.
 * Parts of a module `….qkv_proj` are named `….q_proj` and so on, those of `Attention` by what stands around it where that is certain; others
 * have no name and need one by `matchLayers`' map: `node:q`.
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
    const ofProducts = (byGraph.get(graph) ?? []).flatMap((layer) => {
      const sizes = sizesOf(layer)
      return sizes ? packedParts(layer, sizes) : []
    })
    const ofAttention = graph.nodes.flatMap((node) => attentionParts(node, readersOf(node)))
    return [...ofProducts, ...ofAttention]
  })
  return joinProducts(parts)
}

function put<Key>(lists: Map<Key, LinearLayer[]>, key: Key, layer: LinearLayer): void {
  const list = lists.get(key)
  if (list) list.push(layer)
  else lists.set(key, [layer])
}

/**
 * The parts of a product whose output is q, k and v side by side.
 *
 * @param sizes features of q, k and v
 * @throws {FourierFTError} `SHAPE_MISMATCH`: together they are not the product's features
 */
export function packedParts(layer: LinearLayer, sizes: Sizes): LinearLayer[] {
  const { outFeatures: width, node } = layer
  if (!sizes.every((size) => Number.isInteger(size) && size > 0) || sizes.reduce((a, b) => a + b) !== width)
    throw new FourierFTError(
      'SHAPE_MISMATCH',
      `Node ${JSON.stringify(node.name)} of ${node.graph.file} has ${width} features; q, k and v are to have ${sizes.join(', ')} of them. Give sizes that make up the whole.`,
      { file: node.graph.file, expected: width, received: sizes },
    )
  const [q, k] = sizes
  const offsets = [0, q, q + k]
  return PARTS.map((name, i) =>
    joined(
      productsOf(layer).map((whole) => ({
        ...whole,
        module: whole.module && partName(whole.module, name),
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

function sizesOf(layer: LinearLayer): Sizes | undefined {
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

/** Without a key and a value of its own, the query has all three. @see GroupQueryAttention in ONNX Runtime's docs/ContribOperators.md */
function groupedSizes(node: OnnxNode, width: number): Sizes | undefined {
  const [, key, value] = node.inputs
  if (node.domain !== 'com.microsoft' || node.opType !== 'GroupQueryAttention' || key || value)
    return undefined
  const heads = Number(node.attribute('num_heads')?.int ?? 0)
  const keyHeads = Number(node.attribute('kv_num_heads')?.int ?? 0)
  const size = width / (heads + 2 * keyHeads)
  return Number.isInteger(size) ? [heads * size, keyHeads * size, keyHeads * size] : undefined
}

/** In three, along the last axis of `[batch, tokens, features]`; opset 13 made the sizes an input. */
function splitSizes(node: OnnxNode, width: number): Sizes | undefined {
  const axis = node.attribute('axis')?.int ?? 0n
  if (node.opType !== 'Split' || node.outputs.length !== 3 || (axis !== -1n && axis !== 2n)) return undefined
  const [, input] = node.inputs
  const sizes = input ? sizesIn(constantOf(node.graph, input)) : node.attribute('split')?.ints
  if (!sizes) return undefined
  return sizes.length === 0 ? thirds(width) : toSizes(sizes)
}

/** A larger tensor is no three sizes, and is not read. */
function sizesIn(tensor: OnnxTensor | undefined): readonly number[] | undefined {
  return tensor && tensor.dims.length === 1 && (tensor.dims[0] ?? 0) <= 3 ? integersOf(tensor) : undefined
}

/** Its weight is `[in, q + k + v]`. @see Attention in ONNX Runtime's docs/ContribOperators.md */
function attentionParts(node: OnnxNode, readers: readonly LinearLayer[]): LinearLayer[] {
  const { graph } = node
  const [input, w] = node.inputs
  const [output] = node.outputs
  if (node.domain !== 'com.microsoft' || node.opType !== 'Attention' || !input || !w || !output) return []
  const path = weightPath(graph, w)
  if (path?.dims.length !== 2) return []
  const weight = path.constant.name
  const [inFeatures = 0, outFeatures = 0] = path.dims
  const given = node.attribute('qkv_hidden_sizes')?.ints ?? []
  const sizes = given.length === 0 ? thirds(outFeatures) : toSizes(given)
  const whole = {
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
  return packedParts(whole, sizes).map((part, i) => ({ ...part, module: names?.[i] ?? part.module }))
}

function thirds(width: number): Sizes | undefined {
  return width % 3 === 0 ? [width / 3, width / 3, width / 3] : undefined
}

function toSizes(sizes: ArrayLike<bigint | number>): Sizes | undefined {
  if (sizes.length !== 3) return undefined
  const [q = 0, k = 0, v = 0] = Array.from(sizes, Number)
  return q > 0 && k > 0 && v > 0 ? [q, k, v] : undefined
}
