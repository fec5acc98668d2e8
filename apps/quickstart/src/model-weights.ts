/** Between the weights of a TensorFlow.js model and those of a checkpoint: other names, and `Dense` kernels lie the other way round. */
import * as tf from '@tensorflow/tfjs-core'
import type { LayersModel, LayerVariable } from '@tensorflow/tfjs-layers'
import { type Checkpoint, type Weight, weightNamed } from './checkpoint.js'

/** Gives the model the checkpoint's weights. */
export function loadWeights(model: LayersModel, checkpoint: Checkpoint): void {
  for (const { variable, name, transposed } of places(model)) {
    const { shape, values } = weightNamed(checkpoint, name)
    tf.tidy(() => {
      const stored = tf.tensor(values, [...shape])
      variable.write(transposed ? tf.transpose(tf.reshape(stored, [shape[0] ?? 0, -1])) : stored)
    })
  }
}

/** The model's weights as a checkpoint holds them. */
export function weightsOf(model: LayersModel): Map<string, Weight> {
  const weights = places(model).map(({ variable, name, shape, transposed }) => {
    const values = tf.tidy(() => {
      const value = variable.read()
      return (transposed ? tf.transpose(value) : value).dataSync<'float32'>()
    })
    return [name, { shape, values }] as const
  })
  return new Map(weights)
}

/** Where a weight of the model is in a checkpoint. */
interface Place {
  readonly variable: LayerVariable
  /** PyTorch's. */
  readonly name: string
  readonly shape: readonly number[]
  /** A `Dense` kernel is `[in, out]`, PyTorch's weight `[out, in]`. */
  readonly transposed: boolean
}

const torchNames: Readonly<Record<string, string>> = { kernel: 'weight', gamma: 'weight', beta: 'bias' }

function places(model: LayersModel): Place[] {
  return model.layers.flatMap((layer) =>
    layer.weights.map((variable) => {
      const ownName = variable.originalName.slice(variable.originalName.lastIndexOf('/') + 1)
      const shape = variable.shape.map((size) => size ?? 0)
      const transposed = ownName === 'kernel'
      return {
        variable,
        name: `${layer.name}.${torchNames[ownName] ?? ownName}`,
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
