/**
 * Merges adapters into a model: W + ΔW in the place of W, so that any runtime runs the file as fast as the base. Only float weights:
 * a quantised one would lose most of a small ΔW, so its layer keeps a branch.
 */
import {
  decodeFloats,
  delta,
  encodeFloats,
  type FloatDtype,
  FourierFTError,
  type Layer,
} from '@fourierft/core'
import { setWidth, valuesOfFreeWidth } from '../layers/free-width.js'
import { biasOf } from '../layers/layer-bias.js'
import { type LinearLayer, overlap } from '../layers/linear-layers.js'
import { productsOf } from '../layers/products.js'
import { behindIdentity, producerOf } from '../model/constant-of.js'
import type { OnnxGraph, OnnxNode } from '../model/graph.js'
import { MAX_BYTES, type OnnxModel } from '../model/model.js'
import { DataType } from '../model/schema.js'
import { BYTES, type ExternalData, type OnnxTensor } from '../model/tensor.js'

/** A layer of the model and the adapters' layers whose ΔW it gets, all of them together. */
export interface BakedLayer {
  readonly layer: LinearLayer
  readonly adapters: readonly Layer[]
  /** What takes the place of the layer's own weight and bias: PEFT's `modules_to_save`. */
  readonly whole?: WholeWeights
}

/** One product of a layer. */
interface Product extends BakedLayer {
  /** All of them, which are to have one weight, as they had before. */
  readonly products: readonly LinearLayer[]
}

export interface WholeWeights {
  /** `[out, in]`, row-major; another `out` than the layer's only where `valuesOfFreeWidth` finds the graph to allow it. */
  readonly weight: Float32Array
  /** `[out]`; the layer has to have one. */
  readonly bias?: Float32Array | undefined
}

/** Bytes of a file that lies beside the model. */
export type ReadExternal = (
  location: string,
  offset: number,
  length: number,
) => Uint8Array | Promise<Uint8Array>

export interface BakeOptions {
  /** Needed where weights of the layers are external. */
  readonly readExternal?: ReadExternal
  /** Weights that were external come into the model up to this many bytes each, larger ones into the new external file. Default: 1 MiB */
  readonly inlineUpTo?: number
  /** The name of the new external file, in the folder of the model. */
  readonly location?: string
}

/** A file that belongs beside the model, in pieces to be written one after the other. */
export interface ExternalFile {
  readonly location: string
  readonly parts: readonly Uint8Array[]
}

const DTYPES: ReadonlyMap<number, FloatDtype> = new Map([
  [DataType.float, 'F32'],
  [DataType.float16, 'F16'],
  [DataType.bfloat16, 'BF16'],
])
/** From here on a number is rounded to infinity: half a unit beyond the largest one. */
const LIMITS = { F16: 65520, BF16: 2 ** 128 - 2 ** 119, F32: 2 ** 128 - 2 ** 103, F64: Infinity }
/** Where data begin in an external file, so that they can be mapped. @see ONNX's docs/ExternalData.md */
const ALIGNMENT = 4096

/** `attachBranches` does so, and a session with an adapter that is active. */
const BESIDE = 'keep the adapter beside the weights, as it is while it is not merged'

/** One weight that is to change, found and checked. */
interface Plan {
  /** The products that read it. */
  readonly nodes: readonly OnnxNode[]
  readonly layers: readonly Product[]
  readonly tensor: OnnxTensor
  /** Of the new weight, in the order of the tensor. */
  readonly dims: readonly number[]
  readonly dtype: FloatDtype
  /** What the product gets: another type where the weight is cast. */
  readonly computed: FloatDtype
  /** The tensor is stored `[out, in]`. */
  readonly isOutFirst: boolean
  /** What stands before all of the product. */
  readonly alpha: number
  /** Something else reads it too, so that the products get one of their own. */
  readonly copy: Copy | undefined
}

interface Copy {
  readonly graph: OnnxGraph
  readonly name: string
  readonly dataType: number
  readonly isTransposed: boolean
  /** Whether the old tensor has other readers. */
  readonly isShared: boolean
}

/**
 * Adds ΔW to the layers' weights (or to those that take their place): W + Σ ΔW in float64, rounded once to the type that the weight is stored in. ΔW is divided by the `alpha`
 * of a `Gemm`, which multiplies it again. A weight that something else reads too stays as it is, and the layer gets its own. The model is
 * changed at the very end, or not at all.
 *
 * @returns the file of new external data, where weights were external and are larger than `inlineUpTo`
 * @throws {FourierFTError} `UNSUPPORTED` (quantised weights, other types than float32, float16 and bfloat16, alpha = 0),
 *   `SHAPE_MISMATCH`, `FILE_TOO_LARGE` (2 GB and more, with what comes into the model), `INVALID_OPTION` (no layers, one layer twice, no `readExternal`), `IO_ERROR` (it gave too few bytes), `NOT_FINITE`
 *   (beyond the range of the weight's type)
 */
export async function bakeBranches(
  model: OnnxModel,
  given: readonly BakedLayer[],
  { readExternal, inlineUpTo = 2 ** 20, location = 'merged-weights.bin' }: BakeOptions = {},
): Promise<ExternalFile | undefined> {
  const layers = given.flatMap((baked) => {
    const products = productsOf(baked.layer)
    return products.map((layer) => ({ ...baked, layer, products }))
  })
  const plans = check(model, layers)
  const biases = layers.flatMap((baked) => biasPlan(baked, model.file) ?? [])
  checkLocation(model, location)
  checkSize(model, plans, inlineUpTo)
  const merged: { plan: Plan; bytes: Uint8Array }[] = []
  for (const plan of plans) {
    const isReplaced = plan.layers.some(({ whole }) => whole)
    const stored = isReplaced
      ? undefined
      : (plan.tensor.data() ?? (await readStored(plan.tensor, model.file, readExternal)))
    merged.push({ plan, bytes: mergedBytes(plan, stored, model.file) })
  }

  const parts: Uint8Array[] = []
  let size = 0
  for (const { plan, bytes } of merged) {
    const tensor = targetOf(plan)
    if (!plan.tensor.external || bytes.length <= inlineUpTo) {
      tensor.setData(bytes)
      continue
    }
    const padding = (ALIGNMENT - (size % ALIGNMENT)) % ALIGNMENT
    if (padding > 0) parts.push(new Uint8Array(padding))
    tensor.setData({ location, offset: size + padding, length: bytes.length })
    parts.push(bytes)
    size += padding + bytes.length
  }
  for (const { node, index, graph, tensor, size, isShared, bytes } of biases) {
    const isResized = tensor.dims[0] !== size
    if (!isShared && !isResized) {
      tensor.setData(bytes)
      continue
    }
    const name = freeName(`${tensor.name}.merged`, graph)
    graph.addInitializer({ name, dims: [size], dataType: tensor.dataType, data: bytes })
    node.setInput(index, name)
    if (!isShared) graph.removeInitializers(new Set([tensor.name]))
  }
  for (const { layer, whole } of layers) {
    const width = whole && widthOf(layer, whole)
    if (width === undefined || width === layer.outFeatures) continue
    setWidth(layer.graph, valuesOfFreeWidth(layer) ?? [], () => width)
  }
  return parts.length > 0 ? { location, parts } : undefined
}

/** A bias that is replaced. */
interface BiasPlan {
  readonly node: OnnxNode
  readonly index: number
  readonly graph: OnnxGraph
  readonly tensor: OnnxTensor
  /** Of the new bias. */
  readonly size: number
  readonly isShared: boolean
  readonly bytes: Uint8Array
}

/** `outFeatures` of what replaces the layer. */
function widthOf({ inFeatures }: LinearLayer, { weight }: WholeWeights): number {
  return weight.length / inFeatures
}

function biasPlan({ layer, whole, products }: Product, file: string): BiasPlan | undefined {
  if (!whole?.bias) return undefined
  const found = biasOf(layer)
  const source = found && behindIdentity(layer.graph, found.name)
  const graph = source && ownerOf(source.name, source.graph)
  const tensor = source && graph?.initializers.get(source.name)
  const dtype = tensor && DTYPES.get(tensor.dataType)
  const { node, module } = layer
  if (!found || !graph || !tensor || !dtype)
    throw new FourierFTError(
      'UNSUPPORTED',
      `${file}: the layer ${node.name} has no bias of float32, float16 or bfloat16 that could be replaced; ${BESIDE}.`,
      { file, ...(module === undefined ? {} : { module }), received: node.name },
    )
  const size = widthOf(layer, whole)
  if (whole.bias.length !== size)
    throw new FourierFTError(
      'SHAPE_MISMATCH',
      `${file}: the bias of the layer ${node.name} is [${size}]; received ${whole.bias.length} numbers.`,
      { file, tensor: tensor.name, expected: size, received: whole.bias.length },
    )
  const adders = new Set(products.map((product) => biasOf(product)?.node))
  const isShared = graph.consumersOf(tensor.name).some((reader) => !adders.has(reader))
  return {
    node: found.node,
    index: found.index,
    graph,
    tensor,
    size,
    isShared,
    bytes: encodeInRange(whole.bias, { dtype, what: 'the bias that replaces', advice: BESIDE, tensor, file }),
  }
}

function freeName(wanted: string, graph: OnnxGraph): string {
  let free = wanted
  for (let i = 1; graph.graphs().some((inner) => inner.defines(free)); i++) free = `${wanted}.${i}`
  return free
}

/** The tensor that takes the new weight: the old one, or one that the product alone reads. */
function targetOf({ tensor, dims, copy, nodes }: Plan): OnnxTensor {
  if (!copy) return tensor
  const isAlone =
    !copy.isShared &&
    copy.graph.initializers.has(tensor.name) &&
    nodes.every(({ inputs }) => inputs[1] === tensor.name)
  for (const node of nodes) node.setInput(1, copy.name)
  if (isAlone) copy.graph.removeInitializers(new Set([tensor.name]))
  const { graph, name, dataType } = copy
  return graph.addInitializer({
    name,
    dataType,
    dims: copy.isTransposed ? dims.toReversed() : dims,
    data: new Uint8Array(),
  })
}

function mergedBytes(
  { layers, tensor, dims, dtype, computed, isOutFirst, alpha, copy }: Plan,
  stored: Uint8Array | undefined,
  file: string,
) {
  const [rows = 0, columns = 0] = dims
  const sum = stored
    ? Float64Array.from(decodeFloats({ dtype, bytes: stored }))
    : new Float64Array(rows * columns)
  for (const { layer, adapters, whole } of layers) {
    const { inFeatures, part } = layer
    const outFeatures = whole ? widthOf(layer, whole) : layer.outFeatures
    const offset = part?.offset ?? 0
    if (whole) add(whole.weight)
    for (const adapter of adapters) add(delta(adapter, new Float64Array(outFeatures * inFeatures)))

    function add(change: Float32Array | Float64Array): void {
      for (let o = 0; o < outFeatures; o++) {
        const at = isOutFirst ? (offset + o) * columns : offset + o
        const step = isOutFirst ? 1 : columns
        for (let i = 0; i < inFeatures; i++) {
          const place = at + i * step
          sum[place] = sum[place] + change[o * inFeatures + i] / alpha
        }
      }
    }
  }
  const target = (copy && DTYPES.get(copy.dataType)) ?? dtype
  const values = copy?.isTransposed ? transposed(sum, rows, columns) : sum
  return encodeInRange(values, {
    dtype: target,
    computed,
    what: 'W + ΔW of tensor',
    advice: `${BESIDE}, or lower its scaling`,
    tensor,
    file,
  })
}

interface Stored {
  readonly dtype: FloatDtype
  /** What it is cast to before it is used. */
  readonly computed?: FloatDtype
  /** For the message. */
  readonly what: string
  readonly advice: string
  readonly tensor: OnnxTensor
  readonly file: string
}

/** @throws {FourierFTError} `NOT_FINITE` for a number that would be rounded to infinity */
function encodeInRange(
  values: Float32Array | Float64Array,
  { dtype, computed = dtype, what, advice, tensor, file }: Stored,
): Uint8Array {
  const narrow = LIMITS[computed] < LIMITS[dtype] ? computed : dtype
  const broken = values.findIndex((value) => Math.abs(value) >= LIMITS[narrow] && Number.isFinite(value))
  if (broken >= 0)
    throw new FourierFTError(
      'NOT_FINITE',
      `${file}: ${what} ${JSON.stringify(tensor.name)} has ${values[broken]} in place ${broken}, beyond the range of ${narrow}; ${advice}.`,
      { file, tensor: tensor.name, received: values[broken] },
    )
  return encodeFloats(values, dtype)
}

function transposed(values: Float64Array, rows: number, columns: number): Float64Array {
  const turned = new Float64Array(values.length)
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) turned[c * rows + r] = values[r * columns + c]
  return turned
}

async function readStored(
  { name, dims, dataType, external }: OnnxTensor,
  file: string,
  readExternal: ReadExternal | undefined,
): Promise<Uint8Array> {
  const { location, offset } = external as ExternalData
  const length = bytesOf(dims, dataType)
  if (!readExternal)
    throw new FourierFTError(
      'INVALID_OPTION',
      `${file}: the data of tensor ${JSON.stringify(name)} lie in ${location}; give readExternal, which reads bytes of that file.`,
      { file, tensor: name, option: 'readExternal' },
    )
  const bytes = await readExternal(location, offset, length)
  if (bytes.length !== length)
    throw new FourierFTError(
      'IO_ERROR',
      `${file}: tensor ${JSON.stringify(name)} takes ${length} bytes of ${location} from ${offset} on, but readExternal gave ${bytes.length}. Check that the file is the model's own and complete.`,
      { file, tensor: name, expected: length, received: bytes.length },
    )
  return bytes
}

function check(model: OnnxModel, layers: readonly Product[]): Plan[] {
  const { file } = model
  if (layers.length === 0)
    throw new FourierFTError(
      'INVALID_OPTION',
      `${file}: there is nothing to bake; name at least one layer.`,
      {
        file,
        option: 'layers',
      },
    )
  const byNode = new Map<OnnxNode, Product[]>()
  for (const baked of layers) {
    const { layer, adapters } = baked
    for (const { name, shape } of adapters)
      if (shape[0] !== layer.outFeatures || shape[1] !== layer.inFeatures)
        throw new FourierFTError(
          'SHAPE_MISMATCH',
          `${file}: the layer of module ${name} is [${layer.outFeatures}, ${layer.inFeatures}] ([out, in]), its adapter is of [${shape.join(', ')}].`,
          { file, module: name, expected: [layer.outFeatures, layer.inFeatures], received: shape },
        )
    if (baked.whole && !fits(baked, baked.whole))
      throw new FourierFTError(
        'SHAPE_MISMATCH',
        `${file}: the layer ${layer.node.name} is [${layer.outFeatures}, ${layer.inFeatures}] ([out, in])${layer.part ? ', a part of a larger one' : ''}; a weight of ${baked.whole.weight.length} numbers cannot take its place.`,
        { file, expected: [layer.outFeatures, layer.inFeatures], received: baked.whole.weight.length },
      )
    const others = byNode.get(layer.node) ?? []
    const isTaken = others.some(({ layer: other }) => overlap(layer, other))
    if (isTaken)
      throw new FourierFTError(
        'INVALID_OPTION',
        `${file}: the layer ${layer.node.name} is given twice; give its adapters together.`,
        { file, received: layer.node.name },
      )
    byNode.set(layer.node, [...others, baked])
  }
  const taken = new Set<string>()
  const byTensor = new Map<OnnxTensor, Plan[]>()
  for (const [node, baked] of byNode) {
    const next = plan(node, baked, file, taken)
    const plans = byTensor.get(next.tensor) ?? []
    const at = plans.findIndex((other) => isOneModule(other, next))
    const known = plans[at]
    if (known) plans[at] = { ...known, nodes: [...known.nodes, ...next.nodes] }
    else plans.push(next)
    byTensor.set(next.tensor, plans)
  }
  for (const [tensor, plans] of byTensor)
    if (plans.filter(({ copy }) => copy === undefined).length > 1)
      throw new FourierFTError(
        'UNSUPPORTED',
        `${file}: tensor ${JSON.stringify(tensor.name)} is the weight of several nodes that use it in different ways; ${BESIDE}.`,
        { file, tensor: tensor.name, received: plans[0]?.nodes[0]?.name },
      )
  return [...byTensor.values()].flat()
}

/** Products of one module get the same numbers in the same place. */
function isOneModule(a: Plan, b: Plan): boolean {
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

/** A weight of another width fits where the graph allows it, and no adapter of the layer's own width is added. */
function fits({ layer, adapters }: BakedLayer, whole: WholeWeights): boolean {
  const width = widthOf(layer, whole)
  if (layer.part || width === layer.outFeatures) return !layer.part
  return (
    Number.isInteger(width) &&
    width > 0 &&
    adapters.length === 0 &&
    (biasOf(layer) === undefined || whole.bias !== undefined) &&
    valuesOfFreeWidth(layer) !== undefined
  )
}

/** The model's own external files must not be overwritten. */
function checkLocation({ file, graph }: OnnxModel, location: string): void {
  const isTaken = graph
    .graphs()
    .some(({ initializers }) =>
      [...initializers.values()].some(({ external }) => external?.location === location),
    )
  if (isTaken)
    throw new FourierFTError(
      'INVALID_OPTION',
      `${file} keeps weights in ${location} already; choose another location for the merged ones.`,
      { file, option: 'location', received: location },
    )
}

/** Before any weight is read: what was external or in another weight's place may not fit into one ONNX file. */
function checkSize({ file, size }: OnnxModel, plans: readonly Plan[], inlineUpTo: number): void {
  const added = plans.map(({ tensor, dims, copy }) => {
    const bytes = bytesOf(dims, copy?.dataType ?? tensor.dataType)
    const isInside = !tensor.external || bytes <= inlineUpTo
    return isInside && (tensor.external || copy) ? bytes : 0
  })
  const merged = added.reduce((sum, bytes) => sum + bytes, size)
  if (merged > MAX_BYTES)
    throw new FourierFTError(
      'FILE_TOO_LARGE',
      `${file} would have ${merged} bytes with its merged weights inside, but an ONNX file ends at 2 GB. Merge fewer layers, leave the weights external (inlineUpTo of bakeBranches), or keep the adapter beside them.`,
      { file, expected: MAX_BYTES, received: merged },
    )
}

function bytesOf(dims: readonly number[], dataType: number): number {
  return dims.reduce((product, size) => product * size, BYTES.get(dataType) ?? 0)
}

function plan(node: OnnxNode, layers: readonly Product[], file: string, taken: Set<string>): Plan {
  const unsupported = (problem: string, advice: string) =>
    new FourierFTError(
      'UNSUPPORTED',
      `${file}: the weight of node ${JSON.stringify(node.name)} (${node.opType}) ${problem}; ${advice}.`,
      { file, received: node.name },
    )
  const quantised = () =>
    unsupported('is quantised', `${BESIDE}, or merge it into a model with float weights and quantise that`)
  if (['MatMulNBits', 'MatMulBnb4', 'MatMulInteger'].includes(node.opType)) throw quantised()

  const readers = readersOf(layers)
  let isShared = false
  let isTransposed = false
  let cast: number | undefined
  let name = node.inputs[1] ?? ''
  // As far as `findLinearLayers` goes; a file in which a value is made of itself has no end.
  for (let steps = 0; steps <= 9; steps++) {
    const owner = ownerOf(name, node.graph)
    isShared ||= owner.consumersOf(name).some((reader) => !readers.has(reader)) || owner.isOutput(name)
    const producer = owner.index.producers.get(name)
    const tensor = owner.initializers.get(name) ?? producer?.attribute('value')?.tensor
    if (tensor) return planOf(tensor, owner)
    if (producer?.opType === 'DequantizeLinear') throw quantised()
    if (producer?.opType === 'Transpose') isTransposed = !isTransposed
    // The product computes with what the last cast gives.
    else if (producer?.opType === 'Cast') cast ??= Number(producer.attribute('to')?.int)
    name = producer?.inputs[0] ?? ''
    if (name === '') break
  }
  throw unsupported('is no constant', 'export the model with its weights')

  function planOf(tensor: OnnxTensor, owner: OnnxGraph): Plan {
    const dtype = DTYPES.get(tensor.dataType)
    const target = cast ?? tensor.dataType
    const computed = DTYPES.get(target)
    if (!dtype || !computed)
      throw unsupported(
        `is of ONNX's type ${tensor.dataType}, and float32, float16 and bfloat16 are merged`,
        BESIDE,
      )
    if (!tensor.external && !tensor.data())
      throw unsupported('is stored in several pieces', 'save the model again with raw data')
    const alpha = node.opType === 'Gemm' ? (node.attribute('alpha')?.float ?? 1) : 1
    if (alpha === 0) throw unsupported('is multiplied by alpha = 0', BESIDE)
    const isOutFirst = isTransposed !== (node.opType === 'Gemm' && Boolean(node.attribute('transB')?.int))
    const [first] = layers
    const width = first?.whole && !first.layer.part ? widthOf(first.layer, first.whole) : undefined
    const isResized = width !== undefined && width !== first?.layer.outFeatures
    const copy =
      isShared || isResized
        ? { graph: owner, name: copyName(tensor, owner), dataType: target, isTransposed, isShared }
        : undefined
    const dims = isResized
      ? tensor.dims.map((size, i) => ((i === 0) === isOutFirst ? width : size))
      : tensor.dims
    return { nodes: [node], layers, tensor, dims, dtype, computed, isOutFirst, alpha, copy }
  }

  function copyName(tensor: OnnxTensor, owner: OnnxGraph): string {
    const wanted = `${tensor.name}.merged.${layers[0]?.adapters[0]?.name ?? node.name}`
    let free = wanted
    const isTaken = () => taken.has(free) || owner.graphs().some((graph) => graph.defines(free))
    for (let i = 1; isTaken(); i++) free = `${wanted}.${i}`
    taken.add(free)
    return free
  }
}

/** The products of a module, and what stands between them and their weight. */
function readersOf(layers: readonly Product[]): Set<OnnxNode> {
  const readers = new Set<OnnxNode>()
  for (const { node } of layers[0]?.products ?? []) {
    readers.add(node)
    let name = node.inputs[1] ?? ''
    for (let steps = 0; steps <= 9; steps++) {
      const maker = producerOf(node.graph, name)
      if (!maker) break
      readers.add(maker)
      name = maker.inputs[0] ?? ''
    }
  }
  return readers
}

/** The graph that a name is of: the innermost that defines it. */
function ownerOf(name: string, graph: OnnxGraph): OnnxGraph {
  return graph.defines(name) || !graph.parent ? graph : ownerOf(name, graph.parent)
}
