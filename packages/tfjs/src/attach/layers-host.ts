/** A `LayersModel` as a host of adapters: each layer's `call` is laid over. */
import { type LayersModel, Sequential } from '@tensorflow/tfjs-layers'
import { adaptableLayer } from './adaptable-layer.js'
import { freeze } from './freeze.js'
import type { Host } from './host.js'
import { type ModuleNames, namedLayers } from './named-layers.js'
import { override } from './override.js'
import { trainAdaptersOnly } from './training.js'

export function layersHost(model: LayersModel, moduleNames?: ModuleNames): Host<LayersModel> {
  // Before the flags are read: a Sequential model that builds itself later would set them all.
  if (model instanceof Sequential && !model.built) model.build()
  const named = namedLayers(model, moduleNames)
  return {
    model,
    modules: named.map(({ name, layer }) => ({
      name,
      owner: layer,
      kind: adaptableLayer(layer),
      typeName: layer.getClassName(),
      hasWeights: layer.weights.length > 0,
      isBuilt: layer.built,
      intercept: (apply, isIdle) => {
        const call = layer.call.bind(layer)
        return override(layer, 'call', (inputs, kwargs) => {
          if (isIdle()) return call(inputs, kwargs)
          const [x] = Array.isArray(inputs) ? inputs : [inputs]
          return apply(x)
        })
      },
    })),
    prepare: (state) => {
      const restore = [freeze(model, named, state), trainAdaptersOnly(model, state)]
      return () => {
        for (const each of restore) each()
      }
    },
  }
}
