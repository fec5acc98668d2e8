/** The weights of a user's model, out of reach of every optimizer until they are released. */
import type { LayersModel } from '@tensorflow/tfjs-layers'
import { variableOf } from './layers-internals.js'
import type { NamedLayer } from './named-layers.js'
import { override } from './override.js'

/**
 * Makes the variables of all weights not trainable, for `tf.variableGrads` and `optimizer.minimize` train every trainable variable
 * unless they are told otherwise. The layers' own flags stay, so that `trainableWeights`, the order of `getWeights` and `summary` do
 * not change. Batch normalisation runs in inference mode: in training mode it would go on moving its averages, which are part of the
 * base model.
 *
 * @returns gives every variable its own flag back
 */
export function freeze(model: LayersModel, layers: readonly NamedLayer[]): () => void {
  // A model does not know the weights of layers in fields of other layers.
  const weights = new Set([...model.weights, ...layers.flatMap(({ layer }) => layer.weights)])
  const flags = Array.from(weights, variableOf).map((variable) => ({
    variable,
    trainable: variable.trainable,
  }))
  const apply = () => {
    for (const { variable } of flags) variable.trainable = false
  }
  apply()
  // A Sequential model makes all of its weights trainable again each time it is compiled.
  const { compile } = model
  const restore = [
    override(model, 'compile', (args) => {
      compile.call(model, args)
      apply()
    }),
  ]
  const normalisations = layers.filter(({ layer }) => layer.getClassName() === 'BatchNormalization')
  for (const { layer } of normalisations) {
    const call = layer.call.bind(layer)
    restore.push(override(layer, 'call', (inputs, kwargs) => call(inputs, { ...kwargs, training: false })))
  }
  return () => {
    for (const each of restore) each()
    for (const { variable, trainable } of flags) variable.trainable = trainable
  }
}
