/** Makes a model of TensorFlow.js ready for adapters. */
import type { FourierFTConfig, FourierFTOptions } from '@fourierft/core'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import { Adapters, type AttachOptions } from './adapters.js'

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
