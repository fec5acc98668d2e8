/** Adds a branch to a `Dense` layer, and removes it again. The result of the branch is added to the output of the layer. */
import * as tf from '@tensorflow/tfjs-core'
import type { LayersModel, layers } from '@tensorflow/tfjs-layers'

/** Returns the layers whose last name segment is in `targetModules`, in the order of the model. */
export const targetLayers = (model: LayersModel, targetModules: readonly string[]): layers.Layer[] =>
  model.layers.filter(({ name }) => targetModules.includes(name.slice(name.lastIndexOf('.') + 1)))

/** Returns the kernel shape `[in, out]` of a `Dense` layer. */
export function kernelShape(layer: layers.Layer): [inputs: number, outputs: number] {
  const [inputs = 0, outputs = 0] = layer.getWeights()[0]?.shape ?? []
  return [inputs, outputs]
}

/**
 * @param branch function from `x` `[T, in]`, the layer's input as a matrix, to Δy `[T, out]`
 * @returns a function that restores the original `call` of the layer
 */
export function addBranch(layer: layers.Layer, branch: (x: tf.Tensor2D) => tf.Tensor): () => void {
  const [inputs] = kernelShape(layer)
  const plainCall = layer.call
  layer.call = (input, kwargs) =>
    tf.tidy(() => {
      const y = plainCall.call(layer, input, kwargs) as tf.Tensor
      const x = tf.reshape(Array.isArray(input) ? (input[0] ?? y) : input, [-1, inputs]) as tf.Tensor2D
      return tf.add(y, tf.reshape(branch(x), y.shape))
    })
  return () => {
    layer.call = plainCall
  }
}
