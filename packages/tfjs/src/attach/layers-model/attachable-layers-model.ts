/** The implementation of `AttachableModel` for a `LayersModel`: it intercepts the `call` of each layer. */
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
  // A Sequential model sets all `trainable` flags when it is built, so build it before `freezeWeights` reads them.
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
        for (const undo of restore) undo()
      }
    },
  }
}
