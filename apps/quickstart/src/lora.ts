/**
 * LoRA on the `Dense` layers of a model, for comparison: `y = W x + α/r · B A x` with `A` `[r, in]` and `B` `[out, r]`.
 *
 * @see Hu et al., "LoRA: Low-Rank AttachedMethod of Large Language Models", ICLR 2022
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CONFIG_FILE, MODEL_FILE, type Tensor, writeSafetensors } from '@fourierft/core'
import * as tf from '@tensorflow/tfjs-core'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import { float32Tensor } from './checkpoint.js'
import { addBranch, kernelShape, targetLayers } from './dense-branch.js'

export interface LoraOptions {
  /** The last part of the names of the layers to adapt. */
  readonly targetModules: readonly string[]
  readonly rank: number
  readonly alpha: number
  readonly seed: number
}

/** The matrices of one layer. Activations are rows in TensorFlow.js, so the variables are `Aᵀ` `[in, r]` and `Bᵀ` `[r, out]`. */
export interface LoraPair {
  readonly module: string
  readonly a: tf.Variable<tf.Rank.R2>
  readonly b: tf.Variable<tf.Rank.R2>
}

export interface Lora {
  readonly options: LoraOptions
  readonly pairs: readonly LoraPair[]
  /** Restores the model's layers and frees the variables. */
  detach(): void
}

/** Adds the branches. As in PEFT, `B` starts at zero, so the model's output does not change yet, and `A` is uniform in `±1/√in`. */
export function attachLora(model: LayersModel, options: LoraOptions): Lora {
  const { targetModules, rank, alpha, seed } = options
  const attached = targetLayers(model, targetModules).map((layer, index) => {
    const [inputs, outputs] = kernelShape(layer)
    const bound = 1 / Math.sqrt(inputs)
    // A variable shares the memory of its first tensor, which `tidy` frees.
    const [a, b] = tf.tidy(() => [
      tf.variable(
        tf.randomUniform<tf.Rank.R2>([inputs, rank], -bound, bound, 'float32', seed * 1000 + index),
      ),
      tf.variable(tf.zeros<tf.Rank.R2>([rank, outputs])),
    ]) as [tf.Variable<tf.Rank.R2>, tf.Variable<tf.Rank.R2>]
    const removeBranch = addBranch(layer, (x) => tf.mul(tf.matMul(tf.matMul(x, a), b), alpha / rank))
    const detach = () => {
      removeBranch()
      tf.dispose([a, b])
    }
    return { module: layer.name, a, b, detach }
  })
  return {
    options,
    pairs: attached,
    detach: () => {
      for (const { detach } of attached) detach()
    },
  }
}

/** Writes the adapter in PEFT's layout. @returns the path of the file with the matrices */
export async function saveLora({ options, pairs }: Lora, folder: string): Promise<string> {
  const { targetModules, rank, alpha } = options
  const tensors = new Map<string, Tensor>()
  for (const { module, a, b } of pairs) {
    for (const [name, factor] of [['lora_A', a] as const, ['lora_B', b] as const]) {
      const matrix = tf.transpose(factor)
      const weight = { shape: matrix.shape, values: matrix.dataSync<'float32'>() }
      tensors.set(`base_model.model.${module}.${name}.weight`, float32Tensor(weight))
      matrix.dispose()
    }
  }
  const config = { peft_type: 'LORA', r: rank, lora_alpha: alpha, target_modules: targetModules }
  const file = join(folder, MODEL_FILE)
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, CONFIG_FILE), `${JSON.stringify(config, null, 2)}\n`)
  await writeFile(file, writeSafetensors({ tensors, metadata: { format: 'pt' } }))
  return file
}
