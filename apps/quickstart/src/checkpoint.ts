/**
 * A checkpoint is a folder in the format of Hugging Face's `ViTForImageClassification`: `config.json` and `model.safetensors`, with
 * PyTorch's names and orientation. Both implementations of the demo read the same checkpoint. This file uses neither TensorFlow.js nor
 * the file system, so that browsers can use it. `checkpoint-files.ts` reads and writes the folder.
 */
import { decodeFloats, readSafetensors, type Tensor } from '@fourierft/core'
import type { VisionTransformerConfig } from './vision-transformer.js'

export interface Weight {
  /** PyTorch's shape: `[out, in]` for a linear layer. */
  readonly shape: readonly number[]
  /** Row-major. */
  readonly values: Float32Array
}

export interface Checkpoint {
  readonly config: VisionTransformerConfig
  /** The weights by PyTorch's names. */
  readonly weights: ReadonlyMap<string, Weight>
}

/**
 * @param config the text of `config.json`
 * @param bytes the bytes of `model.safetensors`
 * @param source the name of the file in error messages
 * @throws FourierFTError if the bytes are not a safetensors file
 */
export function decodeCheckpoint(config: string, bytes: Uint8Array, source: string): Checkpoint {
  const { tensors } = readSafetensors(bytes, source)
  const weights = Array.from(tensors, ([name, tensor]) => {
    const weight: Weight = { shape: tensor.shape, values: Float32Array.from(decodeFloats(tensor)) }
    return [name, weight] as const
  })
  return { config: JSON.parse(config) as VisionTransformerConfig, weights: new Map(weights) }
}

/** @throws if the checkpoint has no such tensor */
export function weightNamed({ weights }: Checkpoint, name: string): Weight {
  const weight = weights.get(name)
  if (weight === undefined) throw new Error(`the checkpoint has no tensor ${name}`)
  return weight
}

export function float32Tensor({ shape, values }: Weight): Tensor {
  return { dtype: 'F32', shape, bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) }
}
