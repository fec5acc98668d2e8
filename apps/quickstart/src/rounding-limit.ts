/**
 * The largest difference that rounding to float32 can cause between two computations of the same logits: one unit roundoff for each addition
 * on the longest path through the model, relative to the largest logit.
 */
import type { VisionTransformerConfig } from './vision-transformer.js'

const unitRoundoff = 2 ** -24

export function roundingLimit(config: VisionTransformerConfig, logits: ArrayLike<number>): number {
  let largest = 0
  for (let i = 0; i < logits.length; i++) largest = Math.max(largest, Math.abs(logits[i] ?? Number.NaN))
  return additions(config) * unitRoundoff * largest
}

/** Additions on the longest path: products, means, variances, scores, the softmax and its weighted sum, residuals. */
function additions(config: VisionTransformerConfig): number {
  const {
    hidden_size: width,
    num_attention_heads: heads,
    intermediate_size: inner,
    patch_size: patch,
  } = config
  const tokens = (config.image_size / patch) ** 2 + 1
  const norm = 2 * width + 1
  const attention = width + width / heads + 2 * tokens + width + 1
  const perceptron = width + inner + 1
  return patch ** 2 + 1 + config.num_hidden_layers * (2 * norm + attention + perceptron) + norm + width
}
