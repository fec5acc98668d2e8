/** Prepares baking without changing the model: finds the tensors that get new numbers, and the products that need a new tensor. */
import { type FloatDtype, FourierFTError, type Layer } from '@fourierft/core'
import { biasOf } from '../layers/layer-bias.js'
import { type LinearLayer, overlap } from '../layers/linear-layer.js'
import type { WholeWeights } from '../layers/read-layer.js'
import { valuesOfFreeWidth } from '../layers/resizable-head.js'
import { type WeightPath, weightPath } from '../layers/weight-path.js'
import type { OnnxGraph, OnnxNode } from '../model/graph.js'
import { DataType } from '../model/schema.js'
import type { OnnxTensor } from '../model/tensor.js'

/** A layer of the model, and the layers of adapters whose ΔW are added to its weight. */
export interface BakedLayer {
  readonly layer: LinearLayer
  readonly adapters: readonly Layer[]
  /** The weight and bias that replace the layer's: PEFT's `modules_to_save`. */
  readonly whole?: WholeWeights
}

/** One product of a layer. */
export interface BakedProduct extends BakedLayer {
  /** All products of the layer. They share one weight, before and after baking. */
  readonly products: readonly LinearLayer[]
}

/** The float types of weights that can be baked. */
export const FLOAT_TYPES: ReadonlyMap<number, FloatDtype> = new Map([
  [DataType.float, 'F32'],
  [DataType.float16, 'F16'],
  [DataType.bfloat16, 'BF16'],
])

/** Advice if ΔW cannot be added to a weight. A session has such a branch while an adapter is active. */
export const KEEP_BRANCH = 'keep the adapter as a branch (attachBranches), unmerged'

/** One weight that changes. */
export interface WeightUpdate {
  /** The products that read it. */
  readonly nodes: readonly OnnxNode[]
  readonly layers: readonly BakedProduct[]
  readonly tensor: OnnxTensor
  /** The dims of the new weight, in the order of the tensor. */
  readonly dims: readonly number[]
  readonly dtype: FloatDtype
  /** The type that the product computes with. It differs from `dtype` if the weight is cast. */
  readonly computed: FloatDtype
  /** Whether the tensor is stored `[out, in]`. */
  readonly isOutFirst: boolean
  /** The factor by which a `Gemm` multiplies its product; otherwise 1. */
  readonly alpha: number
  /** The new weight of the products, if something else also reads the old one, or if the size changes. */
  readonly copy: WeightCopy | undefined
}

export interface WeightCopy {
  readonly graph: OnnxGraph
  readonly name: string
  readonly dataType: number
  readonly isTransposed: boolean
  /** Whether other nodes use the old tensor. */
  readonly isShared: boolean
}

/** The `outFeatures` of the weight that replaces the layer's. */
export function widthOf({ inFeatures }: LinearLayer, { weight }: WholeWeights): number {
  return weight.length / inFeatures
}

/** @throws {FourierFTError} `INVALID_OPTION`, `SHAPE_MISMATCH`, `UNSUPPORTED`: see `bakeBranches` */
export function weightUpdates(file: string, products: readonly BakedProduct[]): WeightUpdate[] {
  const takenNames = new Set<string>()
  const byTensor = new Map<OnnxTensor, WeightUpdate[]>()
  for (const [node, baked] of checkedProductsByNode(file, products)) {
    const update = weightUpdate(node, baked, file, takenNames)
    const updates = byTensor.get(update.tensor) ?? []
    const index = updates.findIndex((other) => isOneModule(other, update))
    const existing = updates[index]
    if (existing) updates[index] = { ...existing, nodes: [...existing.nodes, ...update.nodes] }
    else updates.push(update)
    byTensor.set(update.tensor, updates)
  }
  for (const [tensor, updates] of byTensor)
    if (updates.filter(({ copy }) => copy === undefined).length > 1)
      throw new FourierFTError(
        'UNSUPPORTED',
        `${file}: several nodes use tensor ${JSON.stringify(tensor.name)} as their weight in different ways`,
        { file, tensor: tensor.name, received: updates[0]?.nodes[0]?.name, advice: KEEP_BRANCH },
      )
  return [...byTensor.values()].flat()
}

/** Checks the products and groups them by node: the parts of a packed product share a node. */
function checkedProductsByNode(
  file: string,
  products: readonly BakedProduct[],
): ReadonlyMap<OnnxNode, readonly BakedProduct[]> {
  if (products.length === 0)
    throw new FourierFTError(
      'INVALID_OPTION',
      `${file}: layers: expected at least one layer; received none`,
      {
        file,
        option: 'layers',
      },
    )
  const byNode = new Map<OnnxNode, BakedProduct[]>()
  for (const baked of products) {
    const { layer, adapters, whole } = baked
    const { node, outFeatures, inFeatures, part } = layer
    for (const { name, shape } of adapters)
      if (shape[0] !== outFeatures || shape[1] !== inFeatures)
        throw new FourierFTError(
          'SHAPE_MISMATCH',
          `${file}: the layer of module ${name} is [${outFeatures}, ${inFeatures}] ([out, in]), but the shape of its adapter is [${shape.join(', ')}]`,
          { file, module: name, expected: [outFeatures, inFeatures], received: shape },
        )
    if (whole && !isReplaceableBy(baked, whole))
      throw new FourierFTError(
        'SHAPE_MISMATCH',
        `${file}: a weight of ${whole.weight.length} numbers cannot replace that of the layer ${node.name}, which is [${outFeatures}, ${inFeatures}] ([out, in])${part ? ' and a part of a larger one' : ''}`,
        { file, expected: [outFeatures, inFeatures], received: whole.weight.length },
      )
    const others = byNode.get(node) ?? []
    if (others.some(({ layer: other }) => overlap(layer, other)))
      throw new FourierFTError('INVALID_OPTION', `${file}: the layer ${node.name} is given twice`, {
        file,
        received: node.name,
        advice: 'put all adapters of a layer into one entry',
      })
    byNode.set(node, [...others, baked])
  }
  return byNode
}

/** A weight of another width fits if the graph allows it, and if no adapter for the old width is added to it. */
function isReplaceableBy({ layer, adapters }: BakedLayer, whole: WholeWeights): boolean {
  if (layer.part) return false
  const width = widthOf(layer, whole)
  if (width === layer.outFeatures) return true
  return (
    Number.isInteger(width) &&
    width > 0 &&
    adapters.length === 0 &&
    (biasOf(layer) === undefined || whole.bias !== undefined) &&
    valuesOfFreeWidth(layer) !== undefined
  )
}

/** Whether two products belong to one module, and so need the same numbers in the same order. */
function isOneModule(a: WeightUpdate, b: WeightUpdate): boolean {
  const isSameCopy =
    a.copy === undefined || b.copy === undefined
      ? a.copy === b.copy
      : a.copy.graph === b.copy.graph &&
        a.copy.dataType === b.copy.dataType &&
        a.copy.isTransposed === b.copy.isTransposed &&
        a.copy.isShared === b.copy.isShared
  return (
    isSameCopy &&
    a.alpha === b.alpha &&
    a.isOutFirst === b.isOutFirst &&
    a.layers.length === b.layers.length &&
    a.layers.every(({ products }) => b.layers.some((other) => other.products === products))
  )
}

/** @param takenNames the names of new tensors; the name of a new weight is added */
function weightUpdate(
  node: OnnxNode,
  layers: readonly BakedProduct[],
  file: string,
  takenNames: Set<string>,
): WeightUpdate {
  const unsupported = (problem: string, advice: string) =>
    new FourierFTError(
      'UNSUPPORTED',
      `${file}: the weight of node ${JSON.stringify(node.name)} (${node.opType}) ${problem}`,
      { file, received: node.name, advice },
    )
  const quantised = () =>
    unsupported(
      'is quantised',
      `${KEEP_BRANCH}, or bake it into a model with float weights and quantise the result`,
    )
  if (['MatMulNBits', 'MatMulBnb4', 'MatMulInteger'].includes(node.opType)) throw quantised()
  const path = weightPath(node.graph, node.inputs[1] ?? '')
  if (!path) throw unsupported('is not a constant', 'export the model with its weights')
  if (path.isQuantised) throw quantised()
  const { tensor, isTransposed, constant } = path
  const dtype = FLOAT_TYPES.get(tensor.dataType)
  const computed = FLOAT_TYPES.get(path.dataType)
  if (!dtype || !computed)
    throw unsupported(
      `has ONNX's data type ${tensor.dataType}; expected float32, float16 or bfloat16`,
      KEEP_BRANCH,
    )
  if (!tensor.external && !tensor.data())
    throw unsupported('is stored in several pieces', 'save the model again with raw data')
  const attributes = node.opType === 'Gemm' ? node.attributes : undefined
  const alpha = attributes?.get('alpha')?.float ?? 1
  if (alpha === 0) throw unsupported('is multiplied by alpha = 0', KEEP_BRANCH)
  const isOutFirst = isTransposed !== Boolean(attributes?.get('transB')?.int)
  const [first] = layers
  const width = first?.whole && !first.layer.part ? widthOf(first.layer, first.whole) : undefined
  const isResized = width !== undefined && width !== first?.layer.outFeatures
  const isShared = hasOtherReaders(path, layers)
  const copy =
    isShared || isResized
      ? {
          graph: constant.graph,
          name: freeName(
            `${tensor.name}.merged.${first?.adapters[0]?.name ?? node.name}`,
            constant.graph,
            takenNames,
          ),
          dataType: path.dataType,
          isTransposed,
          isShared,
        }
      : undefined
  const dims = isResized
    ? tensor.dims.map((size, axis) => ((axis === 0) === isOutFirst ? width : size))
    : tensor.dims
  return { nodes: [node], layers, tensor, dims, dtype, computed, isOutFirst, alpha, copy }
}

/** Whether anything other than the module's products reads the weight, or a value between the weight and a product. */
function hasOtherReaders({ values }: WeightPath, layers: readonly BakedProduct[]): boolean {
  const moduleNodes = new Set(
    (layers[0]?.products ?? []).flatMap(({ node }) => [
      node,
      ...(weightPath(node.graph, node.inputs[1] ?? '')?.nodes ?? []),
    ]),
  )
  return values.some(
    ({ graph, name }) =>
      graph.isOutput(name) || graph.consumersOf(name).some((reader) => !moduleNodes.has(reader)),
  )
}

/** Returns a name for a new tensor: `wanted`, followed by a number if that is taken. */
export function freeName(wanted: string, graph: OnnxGraph, taken: Set<string> = new Set()): string {
  let name = wanted
  const isTaken = () => taken.has(name) || graph.graphs().some((inner) => inner.defines(name))
  for (let i = 1; isTaken(); i++) name = `${wanted}.${i}`
  taken.add(name)
  return name
}
