/** The encoder of `random-transformer.ts` in TensorFlow.js: pre-norm blocks without positions, with adapters on query and value. */
import { uniformEntries } from '@fourierft/core'
import { fourierLinear, type LayerSpec } from '@fourierft/tfjs'
import * as tf from '@tensorflow/tfjs-core'
import type { TransformerSize } from './random-transformer.js'

/** The expansion of the feed-forward network, and the ε of ONNX's `LayerNormalization`. */
const [EXPANSION, EPSILON] = [4, 1e-5]

export interface TfjsEncoder {
  /** The coefficients of each adapted layer. */
  readonly coefficients: readonly tf.Variable[]
  /** @param ids `[rows, tokens]` @returns `[rows, tokens, width]` */
  apply(ids: tf.Tensor2D): tf.Tensor
}

export function tfjsEncoder({ layers, width, heads, vocabulary }: TransformerSize, n: number): TfjsEncoder {
  const weight = (inputs: number, outputs: number) =>
    tf.randomUniform<tf.Rank.R2>([inputs, outputs], -Math.sqrt(3 / inputs), Math.sqrt(3 / inputs))
  const spec: LayerSpec = {
    shape: [width, width],
    entries: uniformEntries({ shape: [width, width], n, seed: 777 }),
    scaling: 150,
  }
  const coefficients: tf.Variable[] = []
  const linear = (inputs: number, outputs: number) => {
    const [kernel, bias] = [weight(inputs, outputs), tf.zeros([outputs])]
    return (x: tf.Tensor) => tf.add(product(x, kernel), bias)
  }
  const adapted = () => {
    const frozen = linear(width, width)
    const c = tf.variable(tf.zeros([n]))
    coefficients.push(c)
    return (x: tf.Tensor) => fourierLinear(x, c, spec, { base: frozen(x) })
  }
  const blocks = Array.from({ length: layers }, () => ({
    query: adapted(),
    key: linear(width, width),
    value: adapted(),
    output: linear(width, width),
    up: linear(width, EXPANSION * width),
    down: linear(EXPANSION * width, width),
  }))
  const words = weight(vocabulary, width)
  return {
    coefficients,
    apply(ids) {
      const [rows, tokens] = ids.shape
      const byHead = (x: tf.Tensor) =>
        tf.transpose(tf.reshape(x, [rows, tokens, heads, width / heads]), [0, 2, 1, 3])
      let hidden: tf.Tensor = tf.gather(words, ids)
      for (const { query, key, value, output, up, down } of blocks) {
        const normal = layerNorm(hidden)
        const [q, k, v] = [query, key, value].map((project) => byHead(project(normal)))
        const scores = tf.div(tf.matMul(q, k, false, true), Math.sqrt(width / heads))
        const context = tf.transpose(tf.matMul(tf.softmax(scores), v), [0, 2, 1, 3])
        const attended = tf.add(output(tf.reshape(context, [rows, tokens, width])), hidden)
        hidden = tf.add(down(gelu(up(layerNorm(attended)))), attended)
      }
      return layerNorm(hidden)
    },
  }
}

/** One product for all tokens. */
function product(x: tf.Tensor, kernel: tf.Tensor2D): tf.Tensor {
  const [inputs, outputs] = kernel.shape
  return tf.reshape(tf.matMul(tf.reshape(x, [-1, inputs]), kernel), [...x.shape.slice(0, -1), outputs])
}

function layerNorm(x: tf.Tensor): tf.Tensor {
  const centred = tf.sub(x, tf.mean(x, -1, true))
  return tf.mul(centred, tf.rsqrt(tf.add(tf.mean(tf.square(centred), -1, true), EPSILON)))
}

const gelu = (x: tf.Tensor) => tf.mul(tf.mul(x, tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1)), 0.5)
