/**
 * A checkpoint is a folder as Hugging Face's `ViTForImageClassification` writes it: `config.json` and `model.safetensors`, with
 * PyTorch's names and orientation. Both implementations of the demo read the same one. No TensorFlow.js here.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { decodeFloats, readSafetensors, type Tensor, writeSafetensors } from '@fourierft/core'
import type { VisionTransformerConfig } from './vision-transformer.js'

export interface Weight {
  /** PyTorch's: `[out, in]` for a linear layer. */
  readonly shape: readonly number[]
  /** Row-major. */
  readonly values: Float32Array
}

export interface Checkpoint {
  readonly config: VisionTransformerConfig
  /** By PyTorch's names. */
  readonly weights: ReadonlyMap<string, Weight>
}

/** The committed base model; `train-base.ts` made it. */
export const baseFolder = fileURLToPath(new URL('../base', import.meta.url))

export async function readCheckpoint(folder: string): Promise<Checkpoint> {
  const config = await readFile(join(folder, 'config.json'), 'utf8')
  const file = join(folder, 'model.safetensors')
  const { tensors } = readSafetensors(await readFile(file), file)
  const weights = Array.from(tensors, ([name, tensor]) => {
    const weight: Weight = { shape: tensor.shape, values: Float32Array.from(decodeFloats(tensor)) }
    return [name, weight] as const
  })
  return { config: JSON.parse(config) as VisionTransformerConfig, weights: new Map(weights) }
}

/** @returns the path of the weights' file */
export async function writeCheckpoint(folder: string, { config, weights }: Checkpoint): Promise<string> {
  const tensors = Array.from(weights, ([name, weight]) => [name, float32Tensor(weight)] as const)
  const bytes = writeSafetensors({ tensors: new Map(tensors), metadata: { format: 'pt' } })
  const file = join(folder, 'model.safetensors')
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'config.json'), `${JSON.stringify(config, null, 2)}\n`)
  await writeFile(file, bytes)
  return file
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
