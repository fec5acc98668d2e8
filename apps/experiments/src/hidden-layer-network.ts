/**
 * Makes the network of the expressiveness experiment: 2 → width → width → classes, with ReLUs. The middle layer has the limited number of trained
 * values. The paper does not say whether the two layers around it are trained, so there are both variants:
 *
 * - `frozen`: all weights of the network are random and frozen; the middle layer is `W + ΔW`. Only ΔW is trained, as with an adapter.
 * - `trained`: the middle layer is only ΔW; all other weights and all biases are trained with it.
 */
import * as tf from '@tensorflow/tfjs-core'
import type { HiddenUpdate } from './hidden-update.js'

/** Whether the two layers around the hidden layer are frozen or trained. */
export type RestOfNetwork = 'frozen' | 'trained'

export interface HiddenLayerNetwork {
  /** All trained variables, those of ΔW first. */
  readonly variables: tf.Variable[]
  /** Points `[T, 2]` → logits `[T, classes]`. */
  logits(points: tf.Tensor2D): tf.Tensor2D
  dispose(): void
}

export interface NetworkOptions {
  readonly width: number
  readonly classes: number
  readonly restOfNetwork: RestOfNetwork
  readonly seed: number
}

export function hiddenLayerNetwork(
  update: HiddenUpdate,
  { width, classes, restOfNetwork, seed }: NetworkOptions,
): HiddenLayerNetwork {
  // Each random matrix has its own seed. A weight before a ReLU has variance 2/inputs (He et al., 2015).
  const random = (index: number, shape: [number, number], variance: number) =>
    tf.tidy(() =>
      tf.variable(tf.randomNormal<tf.Rank.R2>(shape, 0, Math.sqrt(variance), 'float32', seed * 1000 + index)),
    )
  const zeros = (size: number) => tf.tidy(() => tf.variable(tf.zeros([size])))
  const first = { weight: random(0, [2, width], 1), bias: random(1, [1, width], 1) }
  const middle = { weight: random(2, [width, width], 2 / width), bias: zeros(width) }
  const last = { weight: random(3, [width, classes], 1 / width), bias: zeros(classes) }
  const frozen = restOfNetwork === 'frozen'
  const around = [first.weight, first.bias, middle.bias, last.weight, last.bias]
  return {
    variables: frozen ? update.variables : [...update.variables, ...around],
    logits(points) {
      const features = tf.relu(tf.add(tf.matMul(points, first.weight), first.bias)) as tf.Tensor2D
      const change = tf.add(update.apply(features), middle.bias)
      const hidden = frozen ? tf.add(tf.matMul(features, middle.weight), change) : change
      return tf.add(tf.matMul(tf.relu(hidden) as tf.Tensor2D, last.weight), last.bias)
    },
    dispose: () => tf.dispose([...update.variables, ...around, middle.weight]),
  }
}
