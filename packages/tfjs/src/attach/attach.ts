/** Attaches adapters to a model of TensorFlow.js. */
import { type FourierFTConfig, FourierFTError, type FourierFTOptions } from '@fourierft/core'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import type { TfjsStrategy } from '../strategies/strategy.js'
import { Adapters } from './adapters.js'
import type { AttachableModel } from './attachable-model.js'
import { checkOptions } from './check-options.js'
import { attachableLayersModel } from './layers-model/attachable-layers-model.js'
import type { ModuleNames } from './layers-model/named-layers.js'

export interface AttachOptions {
  /** Other names for modules than the names of the layers: a record by layer path, or a function. */
  readonly moduleNames?: ModuleNames
  /** How active adapters are applied. Default: `auto`, which chooses by the sizes of each layer and batch. */
  readonly strategy?: TfjsStrategy | 'auto'
}

/**
 * Makes a model ready for adapters. `model.predict`, `evaluate` and `compile` work as before, and `fit` trains the active adapters only.
 * The model's output does not change until an adapter is active. `detach()` of the returned object restores the model.
 *
 * @param model a `LayersModel` or `Sequential` with `Dense`, `EinsumDense`, `Conv1D`, `Conv2D` or `Embedding` layers, also inside nested
 *   models, inside `TimeDistributed`, and in fields of attention layers and custom layers; before or after `compile`
 * @param config adds an adapter `default` and makes it active; default: no adapter
 * @throws {FourierFTError} `INVALID_STATE` if the model is already attached, `INVALID_OPTION`, and the errors of `Adapters.addAdapter`;
 *   the model is unchanged then
 */
export function attach(
  model: LayersModel,
  config?: FourierFTOptions | FourierFTConfig,
  options: AttachOptions = {},
): Adapters {
  checkOptions(options)
  if (!Array.isArray((model as Partial<LayersModel> | undefined)?.layers)) {
    throw new FourierFTError('INVALID_OPTION', 'model: expected a LayersModel of @tensorflow/tfjs-layers', {
      advice: 'for a GraphModel use attachGraphModel of @fourierft/tfjs/graph-model',
      option: 'model',
      expected: 'LayersModel',
    })
  }
  return createAdapters(attachableLayersModel(model, options.moduleNames), config, options)
}

/** Creates the adapters of a model, and the adapter `default` if there is a configuration for it. */
export function createAdapters<Model>(
  model: AttachableModel<Model>,
  config: FourierFTOptions | FourierFTConfig | undefined,
  options: Pick<AttachOptions, 'strategy'>,
): Adapters<Model> {
  const adapters = new Adapters(model, options)
  if (config === undefined) return adapters
  try {
    adapters.addAdapter('default', config)
  } catch (error) {
    adapters.detach()
    throw error
  }
  return adapters
}
