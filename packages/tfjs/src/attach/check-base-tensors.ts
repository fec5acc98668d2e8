/** Compares weights of the base model in an adapter's file (`save_embedding_layers` of PEFT) with the weights of the attached model. */
import {
  type Adapter,
  baseParameter,
  decodeFloats,
  FourierFTError,
  isFloatDtype,
  isOtherWeight,
} from '@fourierft/core'
import type { LayerKind } from '../kinds/layer-kind.js'
import type { AdaptedLayer } from './adapted-layer.js'

/**
 * Rejects an adapter of another base model. Skips tensors of layers that the model does not have, as PEFT does.
 *
 * @throws {FourierFTError} `UNSUPPORTED` if a weight of the model has another shape or other numbers
 */
export async function checkBaseTensors(
  { baseTensors }: Adapter,
  layers: ReadonlyMap<string, AdaptedLayer>,
): Promise<void> {
  for (const [name, { dtype, shape, bytes }] of baseTensors) {
    const parameter = baseParameter(name)
    const layer = parameter && layers.get(parameter.module)
    const expected = layer && (parameter.kind === 'weight' ? await weightOf(layer) : await biasOf(layer.kind))
    if (!expected) continue
    const otherBaseModel = (problem: string) =>
      new FourierFTError(
        'UNSUPPORTED',
        `the adapter was trained on another base model: tensor ${name}, a weight of its base model, ${problem}`,
        { advice: 'convert the model that it was trained on', tensor: name, module: parameter.module },
      )
    if (shape.join() !== expected.shape.join())
      throw otherBaseModel(
        `has the shape [${shape.join(', ')}], but the weight of this model has [${expected.shape.join(', ')}]`,
      )
    if (isFloatDtype(dtype) && isOtherWeight(decodeFloats({ dtype, bytes }), expected.values))
      throw otherBaseModel('differs from the weight of this model')
  }
}

interface BaseWeight {
  readonly shape: readonly number[]
  readonly values: ArrayLike<number>
}

/** Returns the weight in PyTorch's layout; undefined for convolutions, whose kernels have another layout in PyTorch. */
async function weightOf({
  kind: { isLinear },
  baseKernel,
  shape: [out, inner],
}: AdaptedLayer): Promise<BaseWeight | undefined> {
  if (!isLinear && baseKernel.shape.length !== 2) return undefined
  const values = await baseKernel.data()
  // Embeddings are [vocabulary, features] in both.
  if (!isLinear) return { shape: [inner, out], values }
  const transposed = new Float32Array(out * inner)
  for (let o = 0; o < out; o++)
    for (let i = 0; i < inner; i++) transposed[o * inner + i] = values[i * out + o]
  return { shape: [out, inner], values: transposed }
}

async function biasOf({ bias, shape: [out] }: LayerKind): Promise<BaseWeight | undefined> {
  return bias ? { shape: [out], values: await bias.read().data() } : undefined
}
