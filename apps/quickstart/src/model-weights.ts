/** Converts between the weights of a TensorFlow.js model and a checkpoint: names differ, and `Dense` kernels are transposed. */
import * as tf from '@tensorflow/tfjs-core'
import type { LayersModel, LayerVariable } from '@tensorflow/tfjs-layers'
import { type Checkpoint, type Weight, weightNamed } from './checkpoint.js'

/** Copies the weights of the checkpoint into the model. */
export function loadWeights(model: LayersModel, checkpoint: Checkpoint): void {
  for (const { variable, name, transposed } of matchedVariables(model)) {
    const { shape, values } = weightNamed(checkpoint, name)
    tf.tidy(() => {
      const stored = tf.tensor(values, [...shape])
      variable.write(transposed ? tf.transpose(tf.reshape(stored, [shape[0] ?? 0, -1])) : stored)
    })
  }
}

/** Returns the weights of the model with the names and shapes of a checkpoint. */
export function weightsOf(model: LayersModel): Map<string, Weight> {
  const weights = matchedVariables(model).map(({ variable, name, shape, transposed }) => {
    const values = tf.tidy(() => {
      const value = variable.read()
      return (transposed ? tf.transpose(value) : value).dataSync<'float32'>()
    })
    return [name, { shape, values }] as const
  })
  return new Map(weights)
}

/** A variable of the model with its name and shape in a checkpoint. */
interface MatchedVariable {
  readonly variable: LayerVariable
  /** PyTorch's name. */
  readonly name: string
  readonly shape: readonly number[]
  /** A `Dense` kernel is `[in, out]`; PyTorch's weight is `[out, in]`. */
  readonly transposed: boolean
}

const torchNames: Readonly<Record<string, string>> = { kernel: 'weight', gamma: 'weight', beta: 'bias' }

function matchedVariables(model: LayersModel): MatchedVariable[] {
  return model.layers.flatMap((layer) =>
    layer.weights.map((variable) => {
      const localName = variable.originalName.slice(variable.originalName.lastIndexOf('/') + 1)
      const shape = variable.shape.map((size) => size ?? 0)
      const transposed = localName === 'kernel'
      return {
        variable,
        name: `${layer.name}.${torchNames[localName] ?? localName}`,
        shape: transposed ? torchShape(layer.name, shape) : shape,
        transposed,
      }
    }),
  )
}

/** Returns PyTorch's shape. There the patch projection is a convolution, `[out, channels, patch, patch]`, with its elements in the same order. */
function torchShape(layer: string, [inputs = 0, outputs = 0]: readonly number[]): readonly number[] {
  const patch = Math.sqrt(inputs)
  return layer.endsWith('patch_embeddings.projection') ? [outputs, 1, patch, patch] : [outputs, inputs]
}
