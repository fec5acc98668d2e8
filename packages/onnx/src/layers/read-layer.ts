/** Reads a linear layer's weight and bias in PyTorch's layout, for adapters that start from a copy of a layer (`modules_to_save`). */
import { decodeFloats, type FloatDtype, FourierFTError } from '@fourierft/core'
import { constantOf, skipIdentity } from '../model/names-in-scope.js'
import { DataType } from '../model/schema.js'
import { BYTES, type OnnxTensor, type ReadExternal } from '../model/tensor.js'
import { biasOf } from './layer-bias.js'
import type { LinearLayer } from './linear-layer.js'
import { weightPath } from './weight-path.js'

/** A weight and a bias that replace those of a layer. */
export interface WholeWeights {
  /** `[out, in]`, row-major. `out` may differ from the layer's only if `valuesOfFreeWidth` finds that the graph allows it. */
  readonly weight: Float32Array
  /** `[out]`; only for a layer that has a bias. */
  readonly bias?: Float32Array | undefined
}

const DTYPES: ReadonlyMap<number, FloatDtype> = new Map([
  [DataType.float, 'F32'],
  [DataType.float16, 'F16'],
  [DataType.bfloat16, 'BF16'],
])

/**
 * Returns the numbers that the layer computes with, already multiplied by the `alpha` and `beta` of a `Gemm`.
 *
 * @throws {FourierFTError} `UNSUPPORTED` (a quantised weight, a type other than float32, float16 and bfloat16, a part of a packed product),
 *   `IO_ERROR` if the external file has too few bytes
 */
export async function readLayer(layer: LinearLayer, readExternal: ReadExternal): Promise<WholeWeights> {
  const { graph, node, inFeatures, outFeatures, part } = layer
  if (part) throw unsupported(layer, 'shares its product with others')
  if (node.opType !== 'MatMul' && node.opType !== 'Gemm') throw unsupported(layer, 'is quantised')
  const path = weightPath(graph, node.inputs[1] ?? '')
  if (!path) throw unsupported(layer, 'has a computed weight')
  if (path.isQuantised) throw unsupported(layer, 'is quantised')
  const stored = await floatsOf(layer, path.tensor, readExternal)
  const attributes = node.opType === 'Gemm' ? node.attributes : undefined
  const isOutFirst = path.isTransposed !== Boolean(attributes?.get('transB')?.int)
  const alpha = attributes?.get('alpha')?.float ?? 1
  const weight = new Float32Array(outFeatures * inFeatures)
  for (let o = 0; o < outFeatures; o++)
    for (let i = 0; i < inFeatures; i++)
      weight[o * inFeatures + i] = alpha * stored[isOutFirst ? o * inFeatures + i : i * outFeatures + o]
  const found = biasOf(layer)
  if (found === undefined) return { weight }
  const source = skipIdentity(graph, found.name)
  const constant = constantOf(source.graph, source.name)
  if (constant === undefined) throw unsupported(layer, 'has a bias that is not a float constant')
  const beta = found.node === node ? (attributes?.get('beta')?.float ?? 1) : 1
  const bias = (await floatsOf(layer, constant, readExternal)).map((value) => beta * value)
  if (bias.length !== outFeatures) throw unsupported(layer, `has a bias of ${bias.length} numbers`)
  return { weight, bias }
}

async function floatsOf(
  layer: LinearLayer,
  tensor: OnnxTensor,
  readExternal: ReadExternal,
): Promise<Float32Array> {
  const { name, dims, dataType, external } = tensor
  const dtype = DTYPES.get(dataType)
  if (dtype === undefined) throw unsupported(layer, `has ONNX's data type ${dataType}`)
  const length = dims.reduce((product, size) => product * size, BYTES.get(dataType) ?? 0)
  const bytes = external ? await readExternal(external.location, external.offset, length) : tensor.data()
  const { file } = layer.graph
  if (bytes === undefined) throw unsupported(layer, 'is stored in several pieces')
  if (bytes.length !== length)
    throw new FourierFTError(
      'IO_ERROR',
      `${file}: tensor ${JSON.stringify(name)} takes ${length} bytes; received ${bytes.length}`,
      {
        file,
        tensor: name,
        expected: length,
        received: bytes.length,
        advice: 'check that the external file belongs to the model and is complete',
      },
    )
  return Float32Array.from(decodeFloats({ dtype, bytes }))
}

function unsupported({ graph: { file }, node, module }: LinearLayer, problem: string): FourierFTError {
  return new FourierFTError(
    'UNSUPPORTED',
    `${file}: the layer ${module ?? node.name} ${problem}, but modulesToSave copies float weights only`,
    {
      file,
      ...(module !== undefined && { module }),
      option: 'modulesToSave',
      received: node.name,
      advice: 'use a model with float weights, or leave the layer out of modulesToSave',
    },
  )
}
