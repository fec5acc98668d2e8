/**
 * Bakes adapters into a model: W + ΔW replaces W, so that any runtime runs the file as fast as the base model. Only float weights can be
 * changed: quantisation would round most of a small ΔW away.
 */
import { decodeFloats, delta, encodeFloats, type FloatDtype, FourierFTError } from '@fourierft/core'
import { biasOf } from '../layers/layer-bias.js'
import { productsOf } from '../layers/products.js'
import { setWidth, valuesOfFreeWidth } from '../layers/resizable-head.js'
import type { OnnxGraph, OnnxNode } from '../model/graph.js'
import { MAX_BYTES, type OnnxModel } from '../model/model.js'
import { skipIdentity } from '../model/names-in-scope.js'
import { byteLengthOf, type OnnxTensor, type ReadExternal } from '../model/tensor.js'
import {
  type BakedLayer,
  type BakedProduct,
  FLOAT_TYPES,
  freeName,
  KEEP_BRANCH,
  type WeightUpdate,
  weightUpdates,
  widthOf,
} from './weight-update.js'

export interface BakeOptions {
  /** Reads external weights. Required if a layer has one. */
  readonly readExternal?: ReadExternal
  /** Changed external weights of up to this many bytes are stored in the model, larger ones in a new external file. Default: 1 MiB */
  readonly inlineUpTo?: number
  /** The name of the new external file, in the folder of the model. */
  readonly location?: string
}

/** A file to write beside the model, in pieces to write in this order. */
export interface ExternalFile {
  readonly location: string
  readonly parts: readonly Uint8Array[]
}

/** The smallest number that is rounded to infinity: the largest number of the type plus half a unit in its last place. */
const LIMITS = { F16: 65520, BF16: 2 ** 128 - 2 ** 119, F32: 2 ** 128 - 2 ** 103, F64: Infinity }
/** The alignment of data in an external file, which lets runtimes map it into memory. @see ONNX's docs/ExternalData.md */
const ALIGNMENT = 4096

/**
 * Adds ΔW to the layers' weights, or to the weights that replace them: W + Σ ΔW in float64, rounded once to the type of the stored weight.
 * ΔW is divided by the `alpha` of a `Gemm`, which multiplies the weight. If something else also reads a weight, that weight stays as it
 * is and the layer gets a new one. All checks and computations come first: if one throws, the model is unchanged.
 *
 * @returns the file of new external data, if a changed weight was external and is larger than `inlineUpTo`
 * @throws {FourierFTError} `UNSUPPORTED` (quantised weights, types other than float32, float16 and bfloat16, alpha = 0),
 *   `SHAPE_MISMATCH`, `FILE_TOO_LARGE` (the model with its new weights reaches 2 GB), `INVALID_OPTION` (no layers, a layer twice, no
 *   `readExternal`), `IO_ERROR` (`readExternal` returned too few bytes), `NOT_FINITE` (beyond the range of the weight's type)
 */
export async function bakeBranches(
  model: OnnxModel,
  layers: readonly BakedLayer[],
  { readExternal, inlineUpTo = 2 ** 20, location = 'merged-weights.bin' }: BakeOptions = {},
): Promise<ExternalFile | undefined> {
  const bakedProducts = layers.flatMap((baked) => {
    const products = productsOf(baked.layer)
    return products.map((layer) => ({ ...baked, layer, products }))
  })
  const updates = weightUpdates(model.file, bakedProducts)
  const biases = bakedProducts.flatMap((baked) => biasUpdate(baked, model.file) ?? [])
  checkLocation(model, location)
  checkSize(model, updates, inlineUpTo)
  const bakedWeights: { update: WeightUpdate; bytes: Uint8Array }[] = []
  for (const update of updates) {
    const isReplaced = update.layers.some(({ whole }) => whole)
    const stored = isReplaced ? undefined : await storedBytes(update.tensor, model.file, readExternal)
    bakedWeights.push({ update, bytes: bakedBytes(update, stored, model.file) })
  }

  const parts: Uint8Array[] = []
  let size = 0
  for (const { update, bytes } of bakedWeights) {
    const tensor = targetTensor(update)
    if (!update.tensor.external || bytes.length <= inlineUpTo) {
      tensor.setData(bytes)
      continue
    }
    const padding = (ALIGNMENT - (size % ALIGNMENT)) % ALIGNMENT
    if (padding > 0) parts.push(new Uint8Array(padding))
    tensor.setData({ location, offset: size + padding, length: bytes.length })
    parts.push(bytes)
    size += padding + bytes.length
  }
  for (const bias of biases) replaceBias(bias)
  for (const { layer, whole } of bakedProducts) {
    const width = whole && widthOf(layer, whole)
    if (width === undefined || width === layer.outFeatures) continue
    setWidth(layer.graph, valuesOfFreeWidth(layer) ?? [], () => width)
  }
  return parts.length > 0 ? { location, parts } : undefined
}

/** A bias that is replaced. */
interface BiasUpdate {
  readonly node: OnnxNode
  readonly index: number
  readonly graph: OnnxGraph
  readonly tensor: OnnxTensor
  /** The length of the new bias. */
  readonly size: number
  readonly isShared: boolean
  readonly bytes: Uint8Array
}

function biasUpdate({ layer, whole, products }: BakedProduct, file: string): BiasUpdate | undefined {
  if (!whole?.bias) return undefined
  const found = biasOf(layer)
  const source = found && skipIdentity(layer.graph, found.name)
  const graph = source && definingGraph(source.name, source.graph)
  const tensor = source && graph?.initializers.get(source.name)
  const dtype = tensor && FLOAT_TYPES.get(tensor.dataType)
  const { node, module } = layer
  if (!found || !graph || !tensor || !dtype)
    throw new FourierFTError(
      'UNSUPPORTED',
      `${file}: the layer ${node.name} has no bias of float32, float16 or bfloat16 that could be replaced`,
      { file, ...(module === undefined ? {} : { module }), received: node.name, advice: KEEP_BRANCH },
    )
  const size = widthOf(layer, whole)
  if (whole.bias.length !== size)
    throw new FourierFTError(
      'SHAPE_MISMATCH',
      `${file}: the bias of the layer ${node.name}: expected ${size} numbers; received ${whole.bias.length}`,
      { file, tensor: tensor.name, expected: size, received: whole.bias.length },
    )
  const adders = new Set(products.map((product) => biasOf(product)?.node))
  const isShared = graph.consumersOf(tensor.name).some((reader) => !adders.has(reader))
  const bytes = encodeInRange(whole.bias, {
    dtype,
    description: 'the bias that replaces',
    advice: KEEP_BRANCH,
    tensor,
    file,
  })
  return { node: found.node, index: found.index, graph, tensor, size, isShared, bytes }
}

/** The innermost graph that defines the name. */
function definingGraph(name: string, graph: OnnxGraph): OnnxGraph {
  return graph.defines(name) || !graph.parent ? graph : definingGraph(name, graph.parent)
}

function replaceBias({ node, index, graph, tensor, size, isShared, bytes }: BiasUpdate): void {
  if (!isShared && tensor.dims[0] === size) {
    tensor.setData(bytes)
    return
  }
  const name = freeName(`${tensor.name}.merged`, graph)
  graph.addInitializer({ name, dims: [size], dataType: tensor.dataType, data: bytes })
  node.setInput(index, name)
  if (!isShared) graph.removeInitializers(new Set([tensor.name]))
}

/** The tensor that gets the new weight: the old one, or a new one that only the products read. */
function targetTensor({ tensor, dims, copy, nodes }: WeightUpdate): OnnxTensor {
  if (!copy) return tensor
  const isUnused =
    !copy.isShared &&
    copy.graph.initializers.has(tensor.name) &&
    nodes.every(({ inputs }) => inputs[1] === tensor.name)
  for (const node of nodes) node.setInput(1, copy.name)
  if (isUnused) copy.graph.removeInitializers(new Set([tensor.name]))
  const { graph, name, dataType } = copy
  return graph.addInitializer({
    name,
    dataType,
    dims: copy.isTransposed ? dims.toReversed() : dims,
    data: new Uint8Array(),
  })
}

function bakedBytes(
  { layers, tensor, dims, dtype, computed, isOutFirst, alpha, copy }: WeightUpdate,
  stored: Uint8Array | undefined,
  file: string,
): Uint8Array {
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
        const start = isOutFirst ? (offset + o) * columns : offset + o
        const step = isOutFirst ? 1 : columns
        for (let i = 0; i < inFeatures; i++) {
          const index = start + i * step
          sum[index] = sum[index] + change[o * inFeatures + i] / alpha
        }
      }
    }
  }
  const target = (copy && FLOAT_TYPES.get(copy.dataType)) ?? dtype
  const values = copy?.isTransposed ? transposed(sum, rows, columns) : sum
  return encodeInRange(values, {
    dtype: target,
    computed,
    description: 'W + ΔW of tensor',
    advice: `${KEEP_BRANCH}, or lower its scaling`,
    tensor,
    file,
  })
}

interface EncodeOptions {
  readonly dtype: FloatDtype
  /** The type that the numbers are cast to before use. */
  readonly computed?: FloatDtype
  /** For the message of an error. */
  readonly description: string
  readonly advice: string
  readonly tensor: OnnxTensor
  readonly file: string
}

/** @throws {FourierFTError} `NOT_FINITE` for a number that would be rounded to infinity */
function encodeInRange(
  values: Float32Array | Float64Array,
  { dtype, computed = dtype, description, advice, tensor, file }: EncodeOptions,
): Uint8Array {
  const narrowestType = LIMITS[computed] < LIMITS[dtype] ? computed : dtype
  const index = values.findIndex(
    (value) => Math.abs(value) >= LIMITS[narrowestType] && Number.isFinite(value),
  )
  if (index >= 0)
    throw new FourierFTError(
      'NOT_FINITE',
      `${file}: ${description} ${JSON.stringify(tensor.name)} has ${values[index]} at index ${index}, beyond the range of ${narrowestType}`,
      { file, tensor: tensor.name, received: values[index], advice },
    )
  return encodeFloats(values, dtype)
}

function transposed(values: Float64Array, rows: number, columns: number): Float64Array {
  const result = new Float64Array(values.length)
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) result[c * rows + r] = values[r * columns + c]
  return result
}

async function storedBytes(
  { name, dims, dataType, external, data }: OnnxTensor,
  file: string,
  readExternal: ReadExternal | undefined,
): Promise<Uint8Array | undefined> {
  if (!external) return data()
  const { location, offset } = external
  const length = byteLengthOf({ dims, dataType })
  if (!readExternal)
    throw new FourierFTError(
      'INVALID_OPTION',
      `${file}: the data of tensor ${JSON.stringify(name)} are in the external file ${location}, which cannot be read without readExternal`,
      {
        file,
        tensor: name,
        option: 'readExternal',
        advice: 'pass readExternal, a function that reads bytes of that file',
      },
    )
  const bytes = await readExternal(location, offset, length)
  if (bytes.length !== length)
    throw new FourierFTError(
      'IO_ERROR',
      `${file}: tensor ${JSON.stringify(name)} has ${length} bytes in ${location} at offset ${offset}, but readExternal returned ${bytes.length}`,
      {
        file,
        tensor: name,
        expected: length,
        received: bytes.length,
        advice: 'check that the external file belongs to the model and is complete',
      },
    )
  return bytes
}

/** The model's own external files must not be overwritten. */
function checkLocation({ file, graph }: OnnxModel, location: string): void {
  const isTaken = graph
    .graphs()
    .some(({ initializers }) =>
      [...initializers.values()].some(({ external }) => external?.location === location),
    )
  if (isTaken)
    throw new FourierFTError('INVALID_OPTION', `${file} already keeps weights in ${location}`, {
      file,
      option: 'location',
      received: location,
      advice: 'choose another location for the new weights',
    })
}

/** Checks, before any weight is read, that the model with its new weights fits into one ONNX file. */
function checkSize({ file, size }: OnnxModel, updates: readonly WeightUpdate[], inlineUpTo: number): void {
  const added = updates.map(({ tensor, dims, copy }) => {
    const bytes = byteLengthOf({ dims, dataType: copy?.dataType ?? tensor.dataType })
    const isInside = !tensor.external || bytes <= inlineUpTo
    return isInside && (tensor.external || copy) ? bytes : 0
  })
  const newSize = added.reduce((sum, bytes) => sum + bytes, size)
  if (newSize > MAX_BYTES)
    throw new FourierFTError(
      'FILE_TOO_LARGE',
      `${file} would have ${newSize} bytes with its new weights; an ONNX file has less than 2 GB`,
      {
        file,
        expected: MAX_BYTES,
        received: newSize,
        advice: `change fewer layers, keep more weights external (a lower inlineUpTo), or ${KEEP_BRANCH}`,
      },
    )
}
