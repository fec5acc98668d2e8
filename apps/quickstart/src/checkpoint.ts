/**
 * A checkpoint is a folder as Hugging Face's `ViTForImageClassification` writes it: `config.json` and `model.safetensors`, with
 * PyTorch's names and orientation. Both implementations of the demo read the same one.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { decodeFloats, readSafetensors, type Tensor, writeSafetensors } from '@fourierft/core'
import * as tf from '@tensorflow/tfjs-core'
import type { LayersModel, LayerVariable } from '@tensorflow/tfjs-layers'
import type { VisionTransformerConfig } from './vision-transformer.js'

export interface Checkpoint {
  readonly config: VisionTransformerConfig
  /** PyTorch's name → values, row-major; the weight of a linear layer is `[out, in]`. */
  readonly weights: ReadonlyMap<string, Float32Array>
}

/** The committed base model; `train-base.ts` made it. */
export const baseFolder = fileURLToPath(new URL('../base', import.meta.url))

export async function readCheckpoint(folder: string): Promise<Checkpoint> {
  const file = join(folder, 'model.safetensors')
  const { tensors } = readSafetensors(await readFile(file), file)
  return {
    config: JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')) as VisionTransformerConfig,
    weights: new Map([...tensors].map(([name, tensor]) => [name, Float32Array.from(decodeFloats(tensor))])),
  }
}

/** @returns the path of the weights' file */
export async function writeCheckpoint(
  folder: string,
  config: VisionTransformerConfig,
  model: LayersModel,
): Promise<string> {
  const tensors = new Map<string, Tensor>()
  for (const { variable, name, shape, transposed } of places(model)) {
    const values = tf.tidy(() => flip(variable.read(), transposed).dataSync<'float32'>())
    tensors.set(name, float32Tensor(shape, values))
  }
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'config.json'), `${JSON.stringify(config, null, 2)}\n`)
  const file = join(folder, 'model.safetensors')
  await writeFile(file, writeSafetensors({ tensors, metadata: { format: 'pt' } }))
  return file
}

/** Gives the model the checkpoint's weights. */
export function loadWeights(model: LayersModel, { weights }: Checkpoint): void {
  for (const { variable, name, transposed } of places(model)) {
    const values = weights.get(name)
    if (values === undefined) throw new Error(`the checkpoint has no tensor ${name}`)
    tf.tidy(() => {
      const [inputs = 0, outputs = 0] = variable.shape
      const stored = transposed
        ? tf.tensor2d(values, [outputs ?? 0, inputs ?? 0])
        : tf.tensor(values, variable.shape as number[])
      variable.write(flip(stored, transposed))
    })
  }
}

export function float32Tensor(shape: readonly number[], values: Float32Array): Tensor {
  return { dtype: 'F32', shape, bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) }
}

/** Where a weight of the model is in a checkpoint. */
interface Place {
  readonly variable: LayerVariable
  /** PyTorch's name. */
  readonly name: string
  /** PyTorch's shape. */
  readonly shape: readonly number[]
  /** A `Dense` kernel is `[in, out]`, PyTorch's weight `[out, in]`. */
  readonly transposed: boolean
}

const torchNames: Readonly<Record<string, string>> = { kernel: 'weight', gamma: 'weight', beta: 'bias' }

function places(model: LayersModel): Place[] {
  return model.layers.flatMap((layer) =>
    layer.weights.map((variable) => {
      const own = variable.originalName.slice(variable.originalName.lastIndexOf('/') + 1)
      const shape = variable.shape.map((size) => size ?? 0)
      const transposed = own === 'kernel'
      return {
        variable,
        name: `${layer.name}.${torchNames[own] ?? own}`,
        shape: transposed ? torchShape(layer.name, shape) : shape,
        transposed,
      }
    }),
  )
}

/** The patch projection is a convolution in PyTorch: `[out, channels, patch, patch]`, in the same order. */
function torchShape(layer: string, [inputs = 0, outputs = 0]: readonly number[]): readonly number[] {
  const patch = Math.sqrt(inputs)
  return layer.endsWith('patch_embeddings.projection') ? [outputs, 1, patch, patch] : [outputs, inputs]
}

const flip = (tensor: tf.Tensor, transposed: boolean): tf.Tensor =>
  transposed ? tf.transpose(tensor) : tensor
