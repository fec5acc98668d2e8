/** Protects the weights of an attached model from optimizers, and from writes while adapters are merged into them. */
import { FourierFTError, invalidState } from '@fourierft/core'
import { LayersModel } from '@tensorflow/tfjs-layers'
import { type AnyLayer, variableOf } from '../../layers-internals.js'
import type { AttachedState } from '../attachable-model.js'
import { overrideAccessor, overrideProperty } from '../override-property.js'
import type { NamedLayer } from './named-layers.js'

/**
 * Sets `trainable` of all variables to false, because `tf.variableGrads` and `optimizer.minimize` train every trainable variable by
 * default. The flags of the layers stay, so that `trainableWeights`, the order of `getWeights` and `summary` do not change. Batch
 * normalisation runs in inference mode, because in training mode it would change its averages, which belong to the base model.
 *
 * `layer.trainable = true` throws, because the weight would be listed as trainable and never change. `setWeights` and `loadWeights` throw
 * while adapters are merged, because `unmergeAdapter` would undo them.
 *
 * @returns a function that restores the flags of all variables and the methods of all layers
 */
export function freezeWeights(
  model: LayersModel,
  layers: readonly NamedLayer[],
  { isMerged }: AttachedState,
): () => void {
  // `model.weights` lacks the weights of layers in fields of other layers.
  const weights = new Set([...model.weights, ...layers.flatMap(({ layer }) => layer.weights)])
  const flags = Array.from(weights, variableOf).map((variable) => ({
    variable,
    trainable: variable.trainable,
  }))
  const apply = () => {
    for (const { variable } of flags) variable.trainable = false
  }
  apply()
  // A Sequential model makes all of its weights trainable each time it is compiled.
  const { compile } = model
  const restore = [
    overrideProperty(model, 'compile', (args) => {
      compile.call(model, args)
      apply()
    }),
  ]
  for (const layer of new Set([...modelsIn(model), ...layers.map(({ layer }) => layer)]))
    restore.push(...guard(layer, isMerged))
  const normalisations = layers.filter(({ layer }) => layer.getClassName() === 'BatchNormalization')
  for (const { layer } of normalisations) {
    const call = layer.call.bind(layer)
    restore.push(
      overrideProperty(layer, 'call', (inputs, kwargs) => call(inputs, { ...kwargs, training: false })),
    )
  }
  return () => {
    for (const undo of restore.reverse()) undo()
    for (const { variable, trainable } of flags) variable.trainable = trainable
  }
}

/** Returns the model and the models inside it: each has methods that write weights. */
function modelsIn(layer: AnyLayer): AnyLayer[] {
  return layer instanceof LayersModel ? [layer, ...layer.layers.flatMap(modelsIn)] : []
}

function guard(layer: AnyLayer, isMerged: () => boolean): (() => void)[] {
  const checkWritable = (method: string) => {
    if (!isMerged()) return
    throw invalidState(
      `${method}: adapters are merged into the weights of the model, and unmergeAdapter() would undo the write`,
      'call unmergeAdapter() first',
    )
  }
  const { setWeights } = layer
  const restore = [
    overrideProperty(layer, 'setWeights', (weights) => {
      checkWritable('setWeights')
      setWeights.call(layer, weights)
    }),
    overrideAccessor(layer, 'trainable', (isTrainable, set) => {
      if (isTrainable)
        throw new FourierFTError(
          'INVALID_STATE',
          `layer '${layer.name}': an attached model trains only its adapters`,
          {
            advice:
              'to train the whole layer, name it in modulesToSave of an adapter, or detach() the model first',
            module: layer.name,
            option: 'trainable',
            received: isTrainable,
          },
        )
      set(isTrainable)
    }),
  ]
  if (!(layer instanceof LayersModel)) return restore
  const { loadWeights } = layer
  return [
    ...restore,
    overrideProperty(layer, 'loadWeights', (weights, strict) => {
      checkWritable('loadWeights')
      loadWeights.call(layer, weights, strict)
    }),
  ]
}
