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
import type { OnnxGraph, OnnxNode } from './graph.js'
import { biasOf } from './layer-bias.js'
import { type LinearLayer, overlap } from './linear-layers.js'
import { MAX_BYTES, type OnnxModel } from './model.js'
import { DataType } from './schema.js'
import { BYTES, type ExternalData, type OnnxTensor } from './tensor.js'
import { withTwins } from './twin-layers.js'

/** A layer of the model and the adapters' layers whose ΔW it gets, all of them together. */
export interface BakedLayer {
  readonly layer: LinearLayer
  readonly adapters: readonly Layer[]
  /** What takes the place of the layer's own weight and bias: PEFT's `modules_to_save`. */
  readonly whole?: WholeWeights
}

/** One of a layer and its twins, which are to have one weight, as they had before. */
interface OneLayer extends BakedLayer {
  /** How many of them there are. */
  readonly readers: number
}

export interface WholeWeights {
  /** `[out, in]`, row-major. */
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
  readonly node: OnnxNode
  readonly layers: readonly BakedLayer[]
  readonly tensor: OnnxTensor
  readonly dtype: FloatDtype
  /** The tensor is stored `[out, in]`. */
  readonly isOutFirst: boolean
  /** What stands before all of the product. */
  readonly alpha: number
  /** Somebody else reads it too, so that the product gets one of its own. */
  readonly copy: Copy | undefined
}

interface Copy {
  readonly graph: OnnxGraph
  readonly name: string
  readonly dataType: number
  readonly isTransposed: boolean
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
    const family = withTwins(baked.layer)
    return family.map((layer) => ({ ...baked, layer, readers: family.length }))
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
  for (const { node, index, graph, tensor, isShared, bytes } of biases) {
    if (!isShared) {
      tensor.setData(bytes)
      continue
    }
    const name = freeName(`${tensor.name}.merged`, graph)
    const { dims, dataType } = tensor
    graph.addInitializer({ name, dims, dataType, data: bytes })
    node.setInput(index, name)
  }
  return parts.length > 0 ? { location, parts } : undefined
}

/** A bias that is replaced. */
interface BiasPlan {
  readonly node: OnnxNode
  readonly index: number
  readonly graph: OnnxGraph
  readonly tensor: OnnxTensor
  readonly isShared: boolean
  readonly bytes: Uint8Array
}

function biasPlan({ layer, whole }: BakedLayer, file: string): BiasPlan | undefined {
  if (!whole?.bias) return undefined
  const found = biasOf(layer)
  const graph = found && ownerOf(found.name, layer.graph)
  const tensor = found && graph?.initializers.get(found.name)
  const dtype = tensor && DTYPES.get(tensor.dataType)
  const { node, module } = layer
  if (!found || !graph || !tensor || !dtype)
    throw new FourierFTError(
      'UNSUPPORTED',
      `${file}: the layer ${node.name} has no bias of float32, float16 or bfloat16 that could be replaced; ${BESIDE}.`,
      { file, ...(module === undefined ? {} : { module }), received: node.name },
    )
  if (whole.bias.length !== layer.outFeatures)
    throw new FourierFTError(
      'SHAPE_MISMATCH',
      `${file}: the bias of the layer ${node.name} is [${layer.outFeatures}]; received ${whole.bias.length} numbers.`,
      { file, tensor: tensor.name, expected: layer.outFeatures, received: whole.bias.length },
    )
  const isShared = graph.consumersOf(found.name).length > 1
  return {
    node: found.node,
    index: found.index,
    graph,
    tensor,
    isShared,
    bytes: encodeFloats(whole.bias, dtype),
  }
}

function freeName(wanted: string, graph: OnnxGraph): string {
  let free = wanted
  for (let i = 1; graph.graphs().some((inner) => inner.defines(free)); i++) free = `${wanted}.${i}`
  return free
}

/** The tensor that takes the new weight: the old one, or one that the product alone reads. */
function targetOf({ tensor, copy, node }: Plan): OnnxTensor {
  if (!copy) return tensor
  const dims = copy.isTransposed ? tensor.dims.toReversed() : tensor.dims
  node.setInput(1, copy.name)
  return copy.graph.addInitializer({ ...copy, dims, data: new Uint8Array() })
}

function mergedBytes(
  { layers, tensor, dtype, isOutFirst, alpha, copy }: Plan,
  stored: Uint8Array | undefined,
  file: string,
) {
  const [rows = 0, columns = 0] = tensor.dims
  const sum = stored
    ? Float64Array.from(decodeFloats({ dtype, bytes: stored }))
    : new Float64Array(rows * columns)
  for (const { layer, adapters, whole } of layers) {
    const { outFeatures, inFeatures, part } = layer
    const offset = part?.offset ?? 0
    if (whole) add(whole.weight)
    for (const adapter of adapters) add(delta(adapter, new Float64Array(outFeatures * inFeatures)))

    function add(change: Float32Array | Float64Array): void {
      for (let o = 0; o < outFeatures; o++) {
        const at = isOutFirst ? (offset + o) * columns : offset + o
        const step = isOutFirst ? 1 : columns
        for (let i = 0; i < inFeatures; i++) {
          const place = at + i * step
          sum[place] = (sum[place] as number) + (change[o * inFeatures + i] as number) / alpha
        }
      }
    }
  }
  const target = (copy && DTYPES.get(copy.dataType)) ?? dtype
  const limit = LIMITS[target]
  const broken = sum.findIndex((value) => Math.abs(value) >= limit && Number.isFinite(value))
  if (broken >= 0)
    throw new FourierFTError(
      'NOT_FINITE',
      `${file}: W + ΔW of tensor ${JSON.stringify(tensor.name)} has ${sum[broken]} in place ${broken}, beyond the range of ${target}; ${BESIDE}, or lower its scaling.`,
      { file, tensor: tensor.name, received: sum[broken] },
    )
  return encodeFloats(copy?.isTransposed ? transposed(sum, rows, columns) : sum, target)
}

function transposed(values: Float64Array, rows: number, columns: number): Float64Array {
  const turned = new Float64Array(values.length)
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) turned[c * rows + r] = values[r * columns + c] as number
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

function check(model: OnnxModel, layers: readonly OneLayer[]): Plan[] {
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
  const byNode = new Map<OnnxNode, OneLayer[]>()
  for (const baked of layers) {
    const { layer, adapters } = baked
    for (const { name, shape } of adapters)
      if (shape[0] !== layer.outFeatures || shape[1] !== layer.inFeatures)
        throw new FourierFTError(
          'SHAPE_MISMATCH',
          `${file}: the layer of module ${name} is [${layer.outFeatures}, ${layer.inFeatures}] ([out, in]), its adapter is of [${shape.join(', ')}].`,
          { file, module: name, expected: [layer.outFeatures, layer.inFeatures], received: shape },
        )
    if (baked.whole && (layer.part || baked.whole.weight.length !== layer.outFeatures * layer.inFeatures))
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
  const plans = [...byNode].map(([node, baked]) => plan(node, baked, file, taken))
  // Twins have one weight.
  return [...new Map(plans.map((each) => [each.copy ? each : each.tensor, each])).values()]
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
  const added = plans.map(({ tensor, copy }) => {
    const bytes = bytesOf(tensor.dims, copy?.dataType ?? tensor.dataType)
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

function plan(node: OnnxNode, layers: readonly OneLayer[], file: string, taken: Set<string>): Plan {
  const unsupported = (problem: string, advice: string) =>
    new FourierFTError(
      'UNSUPPORTED',
      `${file}: the weight of node ${JSON.stringify(node.name)} (${node.opType}) ${problem}; ${advice}.`,
      { file, received: node.name },
    )
  const quantised = () =>
    unsupported('is quantised', `${BESIDE}, or merge it into a model with float weights and quantise that`)
  if (node.opType === 'MatMulNBits' || node.opType === 'MatMulInteger') throw quantised()

  let isShared = false
  let isTransposed = false
  let cast: number | undefined
  let name = node.inputs[1] ?? ''
  // As far as `findLinearLayers` goes; a file in which a value is made of itself has no end.
  for (let steps = 0; steps <= 9; steps++) {
    const owner = ownerOf(name, node.graph)
    const readers = owner === node.graph ? 1 : (layers[0]?.readers ?? 1)
    isShared ||= owner.consumersOf(name).length > readers || owner.isOutput(name)
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
    if (!dtype || !DTYPES.has(target))
      throw unsupported(
        `is of ONNX's type ${tensor.dataType}, and float32, float16 and bfloat16 are merged`,
        BESIDE,
      )
    if (!tensor.external && !tensor.data())
      throw unsupported('is stored in several pieces', 'save the model again with raw data')
    const alpha = node.opType === 'Gemm' ? (node.attribute('alpha')?.float ?? 1) : 1
    if (alpha === 0) throw unsupported('is multiplied by alpha = 0', BESIDE)
    const isOutFirst = isTransposed !== (node.opType === 'Gemm' && Boolean(node.attribute('transB')?.int))
    const copy = isShared
      ? { graph: owner, name: copyName(tensor, owner), dataType: target, isTransposed }
      : undefined
    return { node, layers, tensor, dtype, isOutFirst, alpha, copy }
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

/** The graph that a name is of: the innermost that defines it. */
function ownerOf(name: string, graph: OnnxGraph): OnnxGraph {
  return graph.defines(name) || !graph.parent ? graph : ownerOf(name, graph.parent)
}
