/**
 * A vision transformer in TensorFlow.js with the structure and the names of Hugging Face's `ViTForImageClassification`: pre-LayerNorm blocks,
 * separate query, key and value, a class token, learned positions, GELU. Its weights have the names of a ViT checkpoint.
 *
 * @see Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021
 */
import type * as tf from '@tensorflow/tfjs-core'
import {
  initializers,
  input,
  type LayersModel,
  layers,
  model,
  type SymbolicTensor,
} from '@tensorflow/tfjs-layers'
import { Attention, ClassToken, Embeddings, LayerNorm, Patches } from './vision-transformer-layers.js'

/** The fields of a Hugging Face ViT's `config.json` that this model uses or requires. */
export interface VisionTransformerConfig {
  readonly architectures: readonly ['ViTForImageClassification']
  readonly model_type: 'vit'
  /** Images are square and grey, with values −1…1. */
  readonly image_size: number
  readonly num_channels: 1
  readonly patch_size: number
  readonly hidden_size: number
  readonly num_hidden_layers: number
  readonly num_attention_heads: number
  readonly intermediate_size: number
  readonly hidden_act: 'gelu'
  readonly layer_norm_eps: number
  readonly qkv_bias: true
  readonly id2label: Readonly<Record<string, string>>
}

/** Creates a model from images `[B, size, size]` to logits `[B, labels]`. Until a checkpoint is loaded, its weights are random with a fixed seed. */
export function visionTransformer(config: VisionTransformerConfig): LayersModel {
  let seed = 0
  const dense = (name: string, units: number, activation: 'gelu' | 'linear' = 'linear') =>
    layers.dense({ name, units, activation, kernelInitializer: initializers.glorotUniform({ seed: ++seed }) })
  const norm = (name: string) => new LayerNorm({ name, epsilon: config.layer_norm_eps })
  const { hidden_size: width, num_attention_heads: heads } = config

  const images = input({ shape: [config.image_size, config.image_size], name: 'pixel_values' })
  let x = run(new Patches({ name: 'patches', patchSize: config.patch_size }), images)
  x = run(dense('vit.embeddings.patch_embeddings.projection', width), x)
  x = run(new Embeddings({ name: 'vit.embeddings' }), x)
  for (let index = 0; index < config.num_hidden_layers; index++) {
    const block = `vit.encoder.layer.${index}`
    const attention = `${block}.attention.attention`
    let y = run(norm(`${block}.layernorm_before`), x)
    const [query, key, value] = ['query', 'key', 'value'].map((name) =>
      run(dense(`${attention}.${name}`, width), y),
    )
    y = run(new Attention({ name: attention, heads }), [query, key, value])
    y = run(dense(`${block}.attention.output.dense`, width), y)
    x = run(layers.add({ name: `${block}.attention.residual` }), [x, y])
    y = run(norm(`${block}.layernorm_after`), x)
    y = run(dense(`${block}.intermediate.dense`, config.intermediate_size, 'gelu'), y)
    y = run(dense(`${block}.output.dense`, width), y)
    x = run(layers.add({ name: `${block}.residual` }), [x, y])
  }
  x = run(norm('vit.layernorm'), x)
  x = run(new ClassToken({ name: 'class_token' }), x)
  const labels = Object.keys(config.id2label).length
  return model({ inputs: images, outputs: run(dense('classifier', labels), x), name: 'vit' })
}

/** Returns all weights as variables for an optimizer. `read` of a layer's weight returns the variable itself. */
export const allVariables = (model: LayersModel): tf.Variable[] =>
  model.weights.map((weight) => weight.read() as tf.Variable)

/** Applies a layer to symbolic tensors; TensorFlow.js's types are wider. */
function run(
  layer: layers.Layer,
  inputs: SymbolicTensor | readonly (SymbolicTensor | undefined)[],
): SymbolicTensor {
  return layer.apply(inputs as SymbolicTensor | SymbolicTensor[]) as SymbolicTensor
}
