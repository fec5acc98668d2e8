/**
 * The network of the expressiveness experiment: 2 → width → width → classes, with ReLUs. The layer in the middle is what is trained
 * within a budget; the paper does not say what the two layers around it do, so both readings are here.
 *
 * - `frozen`: all weights of the network are random and stay as they are; the layer in the middle gets `W + ΔW`. Nothing but ΔW is
 *   trained, as with a real adapter.
 * - `trained`: the layer in the middle is ΔW alone, and everything else is trained with it, all biases included.
 */
import * as tf from '@tensorflow/tfjs-core'
import type { HiddenUpdate } from './hidden-update.js'

export type Surroundings = 'frozen' | 'trained'

export interface HiddenLayerNetwork {
  /** All that is trained: ΔW's variables first. */
  readonly variables: tf.Variable[]
  /** Points `[T, 2]` → logits `[T, classes]`. */
  logits(points: tf.Tensor2D): tf.Tensor2D
  dispose(): void
}

export interface NetworkOptions {
  readonly width: number
  readonly classes: number
  readonly surroundings: Surroundings
  readonly seed: number
}

export function hiddenLayerNetwork(
  update: HiddenUpdate,
  { width, classes, surroundings, seed }: NetworkOptions,
): HiddenLayerNetwork {
  // Each random matrix has a seed of its own; a weight that is followed by a ReLU has variance 2/inputs (He et al., 2015).
  const random = (index: number, shape: [number, number], variance: number) =>
    tf.tidy(() =>
      tf.variable(tf.randomNormal<tf.Rank.R2>(shape, 0, Math.sqrt(variance), 'float32', seed * 1000 + index)),
    )
  const zeros = (size: number) => tf.tidy(() => tf.variable(tf.zeros([size])))
  const first = { weight: random(0, [2, width], 1), bias: random(1, [1, width], 1) }
  const middle = { weight: random(2, [width, width], 2 / width), bias: zeros(width) }
  const last = { weight: random(3, [width, classes], 1 / width), bias: zeros(classes) }
  const frozen = surroundings === 'frozen'
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
