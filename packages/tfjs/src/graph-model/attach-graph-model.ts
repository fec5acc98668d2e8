/** Attaches adapters to a `GraphModel`, the kind of model that TensorFlow's converter writes. */
import type { FourierFTConfig, FourierFTOptions } from '@fourierft/core'
import type { GraphModel } from '@tensorflow/tfjs-converter'
import type { Adapters } from '../attach/adapters.js'
import { createAdapters } from '../attach/attach.js'
import { checkOptions } from '../attach/check-options.js'
import type { TfjsStrategy } from '../strategies/strategy.js'
import { attachableGraphModel, type GraphModuleNames } from './attachable-graph-model.js'

export interface GraphAttachOptions {
  /** Other names for the modules of the graph. */
  readonly moduleNames?: GraphModuleNames
  /** How active adapters are applied. Default: `auto`. */
  readonly strategy?: TfjsStrategy | 'auto'
}

/**
 * Makes a model ready for adapters. `predict`, `execute` and `executeAsync` work as before, with the active adapters as branches or,
 * after `mergeAdapter`, in the weights. `tf.variableGrads` and `optimizer.minimize` train the active adapters. `detach()` of the returned object
 * restores the model.
 *
 * A module has the name of its weight: `StatefulPartitionedCall/model/query/MatMul/ReadVariableOp` is `model.query`, and
 * `targetModules: ['query']` matches it.
 *
 * @param model with `MatMul`, `BatchMatMulV2` or `Conv2D` nodes whose weight is a constant, with or without fused bias and activation
 * @param config adds an adapter `default` and makes it active; default: no adapter
 * @throws {FourierFTError} `INVALID_STATE` if the model is already attached, `INVALID_OPTION`, `UNSUPPORTED`, and the errors of
 *   `Adapters.addAdapter`; the model is unchanged then
 */
export function attachGraphModel(
  model: GraphModel,
  config?: FourierFTOptions | FourierFTConfig,
  options: GraphAttachOptions = {},
): Adapters<GraphModel> {
  checkOptions(options)
  return createAdapters(attachableGraphModel(model, options.moduleNames), config, options)
}
