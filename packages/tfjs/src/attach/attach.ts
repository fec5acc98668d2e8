/** Makes a model of TensorFlow.js ready for adapters. */
import { type FourierFTConfig, FourierFTError, type FourierFTOptions } from '@fourierft/core'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import type { TfjsStrategy } from '../strategies/strategy.js'
import { Adapters } from './adapters.js'
import type { AttachableModel } from './attachable-model.js'
import { checkOptions } from './check-options.js'
import { attachableLayersModel } from './layers-model/attachable-layers-model.js'
import type { ModuleNames } from './layers-model/named-layers.js'

export interface AttachOptions {
  /** Module names that differ from the layers' own names: a record by layer path, or a function. */
  readonly moduleNames?: ModuleNames
  /** How active adapters are applied. Default: `auto`, by the sizes of each layer and batch. */
  readonly strategy?: TfjsStrategy | 'auto'
}

/**
 * `model.predict`, `fit`, `evaluate` and `compile` go on working as they are; `fit` trains the active adapters alone. Nothing changes
 * in the model's output until an adapter is active. `detach()` of the object that comes back leaves the model as it was.
 *
 * @param model a `LayersModel` or `Sequential` with `Dense`, `EinsumDense`, `Conv1D`, `Conv2D` or `Embedding` layers, also inside of nested
 *   models, of `TimeDistributed`, and in fields of attention layers and of the user's own; before or after `compile`
 * @param config a new adapter `default`, active at once; absent: no adapter yet
 * @throws {FourierFTError} `INVALID_STATE` for a model that is attached already, `INVALID_OPTION`, and as `Adapters.addAdapter`;
 *   the model is left as it was then
 */
export function attach(
  model: LayersModel,
  config?: FourierFTOptions | FourierFTConfig,
  options: AttachOptions = {},
): Adapters {
  checkOptions(options)
  if (!Array.isArray((model as Partial<LayersModel> | undefined)?.layers)) {
    throw new FourierFTError(
      'INVALID_OPTION',
      'model: expected a LayersModel of @tensorflow/tfjs-layers; for a GraphModel take attachGraphModel of @fourierft/tfjs/graph-model',
      { option: 'model', expected: 'LayersModel' },
    )
  }
  return adaptersOf(attachableLayersModel(model, options.moduleNames), config, options)
}

/** The adapters of a host, with a new one if there is a configuration for it. */
export function adaptersOf<Model>(
  host: AttachableModel<Model>,
  config: FourierFTOptions | FourierFTConfig | undefined,
  options: Pick<AttachOptions, 'strategy'>,
): Adapters<Model> {
  const adapters = new Adapters(host, options)
  if (config === undefined) return adapters
  try {
    adapters.addAdapter('default', config)
  } catch (error) {
    adapters.detach()
    throw error
  }
  return adapters
}
