/** The architecture and the training settings of the base model. `train-base.ts` uses them to make the committed checkpoint. */
import { classes, imageSize } from './digits.js'
import type { VisionTransformerConfig } from './vision-transformer.js'

export const baseConfig: VisionTransformerConfig = {
  architectures: ['ViTForImageClassification'],
  model_type: 'vit',
  image_size: imageSize,
  num_channels: 1,
  patch_size: 7,
  hidden_size: 64,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  intermediate_size: 128,
  hidden_act: 'gelu',
  layer_norm_eps: 1e-12,
  qkv_bias: true,
  id2label: Object.fromEntries(Array.from({ length: classes }, (_, label) => [label, `${label}`])),
}

export const baseTraining = { epochs: 40, batchSize: 64, learningRate: 2e-3, seed: 1 } as const

/** The largest shift of a digit in pixels. Each use of a digit has its own shift. */
export const largestShift = 2
