/** Makes a `GraphModel`, the form of converted models, ready for adapters. */
import type { FourierFTConfig, FourierFTOptions } from '@fourierft/core'
import type { GraphModel } from '@tensorflow/tfjs-converter'
import type { Adapters } from '../attach/adapters.js'
import { adaptersOf } from '../attach/attach.js'
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
 * `predict`, `execute` and `executeAsync` of a loaded model go on working as they are, with the active adapters beside the weights or, after
 * `mergeAdapter`, inside of them. `tf.variableGrads` and `optimizer.minimize` train the active adapters. `detach()` leaves the model
 * as it was.
 *
 * A module is named after its weight: `StatefulPartitionedCall/model/query/MatMul/ReadVariableOp` is `model.query`, which
 * `targetModules: ['query']` means.
 *
 * @param model with `MatMul`, `BatchMatMulV2` or `Conv2D` nodes, fused with bias and activation or not, whose weight is a constant
 * @param config a new adapter `default`, active at once; absent: no adapter yet
 * @throws {FourierFTError} `INVALID_STATE` for a model that is attached already, `INVALID_OPTION`, `UNSUPPORTED`, and as
 *   `Adapters.addAdapter`; the model is left as it was then
 */
export function attachGraphModel(
  model: GraphModel,
  config?: FourierFTOptions | FourierFTConfig,
  options: GraphAttachOptions = {},
): Adapters<GraphModel> {
  checkOptions(options)
  return adaptersOf(attachableGraphModel(model, options.moduleNames), config, options)
}
