/** A `LayersModel` as a host of adapters: each layer's `call` is laid over. */
import { type LayersModel, Sequential } from '@tensorflow/tfjs-layers'
import { layerKindOf } from '../../kinds/registry.js'
import type { AttachableModel } from '../attachable-model.js'
import { overrideProperty } from '../override-property.js'
import { freezeWeights } from './freeze-weights.js'
import { type ModuleNames, namedLayers } from './named-layers.js'
import { trainAdaptersOnly } from './train-adapters-only.js'

export function attachableLayersModel(
  model: LayersModel,
  moduleNames?: ModuleNames,
): AttachableModel<LayersModel> {
  // Before the flags are read: a Sequential model that builds itself later would set them all.
  if (model instanceof Sequential && !model.built) model.build()
  const named = namedLayers(model, moduleNames)
  return {
    model,
    modules: named.map(({ name, layer }) => ({
      name,
      owner: layer,
      kind: layerKindOf(layer),
      typeName: layer.getClassName(),
      hasWeights: layer.weights.length > 0,
      isBuilt: layer.built,
      intercept: (apply, isIdle) => {
        const call = layer.call.bind(layer)
        return overrideProperty(layer, 'call', (inputs, kwargs) => {
          if (isIdle()) return call(inputs, kwargs)
          const [x] = Array.isArray(inputs) ? inputs : [inputs]
          return apply(x)
        })
      },
    })),
    prepare: (state) => {
      const restore = [freezeWeights(model, named, state), trainAdaptersOnly(model, state)]
      return () => {
        for (const each of restore) each()
      }
    },
  }
}
