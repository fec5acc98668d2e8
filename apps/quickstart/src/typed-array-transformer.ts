/**
 * A second implementation of the vision transformer, on plain typed arrays in float64. Its only library is core, which adds the adapter. It
 * shares no code with the TensorFlow.js implementation, reads the same checkpoint, and must give the same predictions.
 */
import { addForward, type Layer } from '@fourierft/core'
import { type Checkpoint, weightNamed } from './checkpoint.js'
import type { DigitSet } from './digits.js'

/** The number of images in a batch, which all fit into the cache. */
const batchSize = 16

/** @returns the function from digits to their logits, `[count, labels]` */
export function typedArrayTransformer(
  checkpoint: Checkpoint,
  adapter: readonly Layer[] = [],
): (digits: DigitSet) => Float64Array {
  const { config } = checkpoint
  const { image_size: size, patch_size: patch, hidden_size: width, num_attention_heads: heads } = config
  const patches = (size / patch) ** 2
  const tokens = patches + 1
  const labels = Object.keys(config.id2label).length

  const weight = (name: string): Float32Array => weightNamed(checkpoint, name).values

  /** `y = (W + ΔW) x + b` for each row of `x`. */
  const linear = (name: string, x: Float64Array): Float64Array => {
    const [matrix, bias] = [weight(`${name}.weight`), weight(`${name}.bias`)]
    const y = multiplyRows(x, matrix, bias)
    const layers = adapter.filter((layer) => layer.name === name)
    if (layers.length > 0) addForward(layers, x, y)
    return y
  }

  const norm = (name: string, x: Float64Array): Float64Array =>
    normalizeRows(x, weight(`${name}.weight`), weight(`${name}.bias`), config.layer_norm_eps)

  /** Computes the logits of `count` images from their pixels, 0…1. */
  const forward = (pixels: Float32Array, count: number): Float64Array => {
    const projected = linear(
      'vit.embeddings.patch_embeddings.projection',
      cutPatches(pixels, count, size, patch),
    )
    let x = embed(
      projected,
      weight('vit.embeddings.cls_token'),
      weight('vit.embeddings.position_embeddings'),
      count,
    )
    for (let index = 0; index < config.num_hidden_layers; index++) {
      const block = `vit.encoder.layer.${index}`
      const attention = `${block}.attention`
      const y = norm(`${block}.layernorm_before`, x)
      const [query, key, value] = [
        linear(`${attention}.attention.query`, y),
        linear(`${attention}.attention.key`, y),
        linear(`${attention}.attention.value`, y),
      ]
      x = add(
        x,
        linear(`${attention}.output.dense`, attend(query, key, value, { count, tokens, heads, width })),
      )
      const inner = linear(`${block}.intermediate.dense`, norm(`${block}.layernorm_after`, x)).map(gelu)
      x = add(x, linear(`${block}.output.dense`, inner))
    }
    return linear('classifier', everyNth(norm('vit.layernorm', x), width, tokens))
  }

  return ({ count, pixels }) => {
    const logits = new Float64Array(count * labels)
    for (let start = 0; start < count; start += batchSize) {
      const end = Math.min(start + batchSize, count)
      logits.set(
        forward(pixels.subarray(start * size * size, end * size * size), end - start),
        start * labels,
      )
    }
    return logits
  }
}

/** `y[t] = W x[t] + b` for every row `x[t]`; `W` is `[out, in]`. */
function multiplyRows(x: Float64Array, matrix: Float32Array, bias: Float32Array): Float64Array {
  const outputs = bias.length
  const inputs = matrix.length / outputs
  const rows = x.length / inputs
  const y = new Float64Array(rows * outputs)
  for (let row = 0; row < rows; row++) {
    for (let output = 0; output < outputs; output++) {
      let sum = bias[output]
      const [xAt, matrixAt] = [row * inputs, output * inputs]
      for (let i = 0; i < inputs; i++) sum += matrix[matrixAt + i] * x[xAt + i]
      y[row * outputs + output] = sum
    }
  }
  return y
}

function normalizeRows(
  x: Float64Array,
  gamma: Float32Array,
  beta: Float32Array,
  epsilon: number,
): Float64Array {
  const width = gamma.length
  const y = new Float64Array(x.length)
  for (let start = 0; start < x.length; start += width) {
    const row = x.subarray(start, start + width)
    const mean = row.reduce((sum, value) => sum + value, 0) / width
    const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / width
    const scale = 1 / Math.sqrt(variance + epsilon)
    for (let i = 0; i < width; i++) {
      y[start + i] = (row[i] - mean) * scale * gamma[i] + beta[i]
    }
  }
  return y
}

/** Cuts images `[count, size, size]`, 0…1, into rows of `patch²` values −1…1, one for each patch. */
function cutPatches(pixels: Float32Array, count: number, size: number, patch: number): Float64Array {
  const rows = new Float64Array(count * size * size)
  let next = 0
  for (let image = 0; image < count; image++) {
    for (let top = 0; top < size; top += patch) {
      for (let left = 0; left < size; left += patch) {
        for (let y = top; y < top + patch; y++) {
          for (let x = left; x < left + patch; x++) {
            rows[next++] = 2 * pixels[(image * size + y) * size + x] - 1
          }
        }
      }
    }
  }
  return rows
}

/** Puts the class token in front of each image's patches and adds the positions `[tokens, width]`. */
function embed(
  patches: Float64Array,
  classToken: Float32Array,
  positions: Float32Array,
  count: number,
): Float64Array {
  const width = classToken.length
  const x = new Float64Array(count * positions.length)
  for (let image = 0; image < count; image++) {
    const at = image * positions.length
    x.set(classToken, at)
    x.set(
      patches.subarray(image * (positions.length - width), (image + 1) * (positions.length - width)),
      at + width,
    )
    for (let i = 0; i < positions.length; i++) x[at + i] = x[at + i] + positions[i]
  }
  return x
}

interface AttentionShape {
  readonly count: number
  readonly tokens: number
  readonly heads: number
  readonly width: number
}

/** `softmax(q·kᵀ/√(width/heads))·v` within each image and head. */
function attend(
  query: Float64Array,
  key: Float64Array,
  value: Float64Array,
  { count, tokens, heads, width }: AttentionShape,
): Float64Array {
  const mixed = new Float64Array(query.length)
  const scores = new Float64Array(tokens)
  const features = width / heads
  for (let image = 0; image < count; image++) {
    for (let head = 0; head < heads; head++) {
      const offset = (token: number) => (image * tokens + token) * width + head * features
      for (let token = 0; token < tokens; token++) {
        for (let other = 0; other < tokens; other++) {
          scores[other] = dot(query, offset(token), key, offset(other), features) / Math.sqrt(features)
        }
        softmax(scores)
        for (let other = 0; other < tokens; other++) {
          for (let i = 0; i < features; i++) {
            const at = offset(token) + i
            mixed[at] = mixed[at] + scores[other] * value[offset(other) + i]
          }
        }
      }
    }
  }
  return mixed
}

function dot(a: Float64Array, aAt: number, b: Float64Array, bAt: number, length: number): number {
  let sum = 0
  for (let i = 0; i < length; i++) sum += a[aAt + i] * b[bAt + i]
  return sum
}

/** Replaces the values by their softmax. */
function softmax(values: Float64Array): void {
  const largest = values.reduce((a, b) => Math.max(a, b))
  let sum = 0
  for (let i = 0; i < values.length; i++) {
    values[i] = Math.exp(values[i] - largest)
    sum += values[i]
  }
  for (let i = 0; i < values.length; i++) values[i] = values[i] / sum
}

const add = (a: Float64Array, b: Float64Array): Float64Array => a.map((value, i) => value + b[i])

/** Returns rows 0, `step`, `2·step`, … of a matrix of `width` columns: the class tokens. */
function everyNth(x: Float64Array, width: number, step: number): Float64Array {
  const count = x.length / (width * step)
  const rows = new Float64Array(count * width)
  for (let i = 0; i < count; i++) rows.set(x.subarray(i * step * width, (i * step + 1) * width), i * width)
  return rows
}

/** `x·Φ(x)`, where Φ is the standard normal distribution function. */
const gelu = (x: number): number => (x / 2) * (1 + erf(x / Math.SQRT2))

/** The error function to 1.5e-7: Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26. */
function erf(x: number): number {
  const t = 1 / (1 + 0.3275911 * Math.abs(x))
  const series =
    t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
  return Math.sign(x) * (1 - series * Math.exp(-x * x))
}
