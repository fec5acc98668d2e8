/** Weights of the base model in an adapter's file (`save_embedding_layers` of PEFT): the model has its own, with which they are compared. */
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
 * Tensors of layers that the model does not have are passed over, as in PEFT.
 *
 * @throws {FourierFTError} `UNSUPPORTED` where a weight of the model has another shape or other numbers
 */
export async function checkBaseTensors(
  { baseTensors }: Adapter,
  layers: ReadonlyMap<string, AdaptedLayer>,
): Promise<void> {
  for (const [name, { dtype, shape, bytes }] of baseTensors) {
    const parameter = baseParameter(name)
    const layer = parameter && layers.get(parameter.module)
    const own = layer && (parameter.kind === 'weight' ? await weightOf(layer) : await biasOf(layer.kind))
    if (!own) continue
    const another = (problem: string) =>
      new FourierFTError(
        'UNSUPPORTED',
        `tensor ${name} of the adapter, a weight of its base model, ${problem}: the adapter is of another base model. Convert the model ` +
          'that it was trained on',
        { tensor: name, module: parameter.module },
      )
    if (shape.join() !== own.shape.join())
      throw another(`has the shape [${shape.join(', ')}], the model's own weight [${own.shape.join(', ')}]`)
    if (isFloatDtype(dtype) && isOtherWeight(decodeFloats({ dtype, bytes }), own.values))
      throw another("holds other numbers than the model's own weight")
  }
}

interface OwnWeight {
  readonly shape: readonly number[]
  readonly values: ArrayLike<number>
}

/** As PyTorch has it; undefined for convolutions, whose kernels PyTorch lays out otherwise. */
async function weightOf({
  kind: { isLinear },
  baseKernel,
  shape: [out, inner],
}: AdaptedLayer): Promise<OwnWeight | undefined> {
  if (!isLinear && baseKernel.shape.length !== 2) return undefined
  const values = await baseKernel.data()
  // PyTorch's Embedding is [vocabulary, features], as the kernel.
  if (!isLinear) return { shape: [inner, out], values }
  const turned = new Float32Array(out * inner)
  for (let o = 0; o < out; o++) for (let i = 0; i < inner; i++) turned[o * inner + i] = values[i * out + o]
  return { shape: [out, inner], values: turned }
}

async function biasOf({ bias, shape: [out] }: LayerKind): Promise<OwnWeight | undefined> {
  return bias ? { shape: [out], values: await bias.read().data() } : undefined
}
