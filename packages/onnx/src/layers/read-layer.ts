/** A linear layer's own weight and bias as PyTorch holds them, for adapters that begin with a copy of a layer (`modules_to_save`). */
import { decodeFloats, type FloatDtype, FourierFTError } from '@fourierft/core'
import type { ReadExternal, WholeWeights } from '../attach/bake.js'
import { behindIdentity, constantOf, producerOf } from '../model/constant-of.js'
import type { OnnxNode } from '../model/graph.js'
import { DataType } from '../model/schema.js'
import { BYTES, type OnnxTensor } from '../model/tensor.js'
import { biasOf } from './layer-bias.js'
import type { LinearLayer } from './linear-layers.js'

const DTYPES: ReadonlyMap<number, FloatDtype> = new Map([
  [DataType.float, 'F32'],
  [DataType.float16, 'F16'],
  [DataType.bfloat16, 'BF16'],
])

/** As far as `findLinearLayers` follows a weight. */
const STEPS = 9

/**
 * What the layer computes with: the `alpha` and `beta` of a `Gemm` are in the numbers.
 *
 * @throws {FourierFTError} `UNSUPPORTED` (quantised, other types than float32, float16 and bfloat16, a part of a packed product),
 *   `IO_ERROR` where the file beside the model has too few bytes
 */
export async function readLayer(layer: LinearLayer, readExternal: ReadExternal): Promise<WholeWeights> {
  const { graph, node, inFeatures, outFeatures, part } = layer
  if (part) throw unsupported(layer, 'shares its product with others')
  const { tensor, isTransposed } = weightOf(layer)
  const stored = await floatsOf(layer, tensor, readExternal)
  const isGemm = node.opType === 'Gemm'
  const isOutFirst = isTransposed !== (isGemm && Boolean(node.attribute('transB')?.int))
  const alpha = isGemm ? (node.attribute('alpha')?.float ?? 1) : 1
  const weight = new Float32Array(outFeatures * inFeatures)
  for (let o = 0; o < outFeatures; o++)
    for (let i = 0; i < inFeatures; i++)
      weight[o * inFeatures + i] = alpha * stored[isOutFirst ? o * inFeatures + i : i * outFeatures + o]
  const own = biasOf(layer)
  if (own === undefined) return { weight }
  const source = behindIdentity(graph, own.name)
  const constant = constantOf(source.graph, source.name)
  if (constant === undefined) throw unsupported(layer, 'has a bias that is no float constant')
  const beta = own.node === node && isGemm ? (node.attribute('beta')?.float ?? 1) : 1
  const bias = (await floatsOf(layer, constant, readExternal)).map((value) => beta * value)
  if (bias.length !== outFeatures) throw unsupported(layer, `has a bias of ${bias.length} numbers`)
  return { weight, bias }
}

function weightOf(layer: LinearLayer): { readonly tensor: OnnxTensor; readonly isTransposed: boolean } {
  const { graph, node } = layer
  if (node.opType !== 'MatMul' && node.opType !== 'Gemm') throw unsupported(layer, 'is quantised')
  let isTransposed = false
  let name: string | undefined = node.inputs[1]
  for (let step = 0; step < STEPS && name; step++) {
    const tensor = constantOf(graph, name)
    if (tensor) return { tensor, isTransposed }
    const producer: OnnxNode | undefined = producerOf(graph, name)
    if (producer?.opType === 'DequantizeLinear') throw unsupported(layer, 'is quantised')
    if (producer?.opType === 'Transpose') isTransposed = !isTransposed
    name = producer?.inputs[0]
  }
  throw unsupported(layer, 'has a weight that is no constant')
}

async function floatsOf(
  layer: LinearLayer,
  tensor: OnnxTensor,
  readExternal: ReadExternal,
): Promise<Float32Array> {
  const { name, dims, dataType, external } = tensor
  const dtype = DTYPES.get(dataType)
  if (dtype === undefined) throw unsupported(layer, `is of ONNX's type ${dataType}`)
  const length = dims.reduce((product, size) => product * size, BYTES.get(dataType) ?? 0)
  const bytes = external ? await readExternal(external.location, external.offset, length) : tensor.data()
  const { file } = layer.graph
  if (bytes === undefined) throw unsupported(layer, 'is stored in several pieces')
  if (bytes.length !== length)
    throw new FourierFTError(
      'IO_ERROR',
      `${file}: tensor ${JSON.stringify(name)} takes ${length} bytes; ${bytes.length} are there. Check that the file is the model's own and complete.`,
      { file, tensor: name, expected: length, received: bytes.length },
    )
  return Float32Array.from(decodeFloats({ dtype, bytes }))
}

function unsupported({ graph: { file }, node, module }: LinearLayer, problem: string): FourierFTError {
  return new FourierFTError(
    'UNSUPPORTED',
    `${file}: the layer ${module ?? node.name} ${problem}; a layer that is saved whole (modulesToSave) is copied from float weights. ` +
      'Take a model with float weights, or leave the layer out of modulesToSave.',
    { file, ...(module !== undefined && { module }), option: 'modulesToSave', received: node.name },
  )
}
