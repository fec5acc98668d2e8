/** The weights of a user's model, out of reach of every optimizer and of the user's own writes while they hold adapters. */
import { FourierFTError, invalidState } from '@fourierft/core'
import { LayersModel } from '@tensorflow/tfjs-layers'
import { type AnyLayer, variableOf } from '../../layers-internals.js'
import type { AttachedState } from '../attachable-model.js'
import { overrideAccessor, overrideProperty } from '../override-property.js'
import type { NamedLayer } from './named-layers.js'

/**
 * Makes the variables of all weights not trainable, because `tf.variableGrads` and `optimizer.minimize` train every trainable variable
 * unless they are given a list. The layers' own flags stay, so that `trainableWeights`, the order of `getWeights` and `summary` do
 * not change. Batch normalisation runs in inference mode: in training mode it would move its averages, which are part of the base model.
 *
 * `layer.trainable = true` is refused: the weight would be listed as trainable and never move. `setWeights` and `loadWeights` are refused
 * while adapters are merged: `unmergeAdapter` would undo them.
 *
 * @returns gives every variable its own flag back, and every layer its methods
 */
export function freezeWeights(
  model: LayersModel,
  layers: readonly NamedLayer[],
  { isMerged }: AttachedState,
): () => void {
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
    for (const each of restore.reverse()) each()
    for (const { variable, trainable } of flags) variable.trainable = trainable
  }
}

/** The model and the models inside of it: each has methods that write weights. */
function modelsIn(layer: AnyLayer): AnyLayer[] {
  return layer instanceof LayersModel ? [layer, ...layer.layers.flatMap(modelsIn)] : []
}

function guard(layer: AnyLayer, isMerged: () => boolean): (() => void)[] {
  const checkWritable = (method: string) => {
    if (!isMerged()) return
    throw invalidState(
      `${method}: the weights of the model hold adapters, and unmergeAdapter() would undo the write; call unmergeAdapter() first`,
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
          `layer '${layer.name}': an attached model trains its adapters alone; to train and save a layer whole, name it in modulesToSave of an adapter, or detach() the model first`,
          { module: layer.name, option: 'trainable', received: isTrainable },
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
