/**
 * `fit`, `fitDataset` and `trainOnBatch` of an attached model: the user's own, made to train the active adapters and nothing else.
 *
 * TensorFlow.js collects the weights to train in `compile`, so a model that was compiled before it was attached (or before the adapter
 * was switched) would go on training its kernels. Here the list is set for the time of each call, which works before and after
 * `compile` alike. Optimizers keep their moments by position in that list: one that has moments of other weights is refused.
 */
import { FourierFTError } from '@fourierft/core'
import type { LayersModel, LayerVariable } from '@tensorflow/tfjs-layers'
import { hasState, trainingModel } from './layers-internals.js'
import { override } from './override.js'

/**
 * @param trainable the weights of the active adapters; throws if there is nothing to train now
 * @returns puts the user's methods back
 */
export function trainAdaptersOnly(model: LayersModel, trainable: () => readonly LayerVariable[]): () => void {
  const trained = new WeakMap<object, readonly LayerVariable[]>()

  const during = async <T>(run: () => Promise<T>): Promise<T> => {
    const weights = trainable()
    const training = trainingModel(model)
    const collected = training.collectedTrainableWeights
    // Not compiled: TensorFlow.js has its own words for it.
    if (!collected) return run()
    checkOptimizer(model.optimizer, weights, trained)
    training.collectedTrainableWeights = [...weights]
    const restoreWarning = override(training, 'checkTrainableWeightsConsistency', () => {})
    try {
      return await run()
    } finally {
      restoreWarning()
      training.collectedTrainableWeights = collected
    }
  }
  const { fit, fitDataset, trainOnBatch } = model
  const restore = [
    override(model, 'fit', (...args) => during(() => fit.apply(model, args))),
    override(
      model,
      'fitDataset',
      (...args) => during(() => fitDataset.apply(model, args)) as ReturnType<typeof fitDataset>,
    ),
    override(model, 'trainOnBatch', (...args) => during(() => trainOnBatch.apply(model, args))),
  ]
  return () => {
    for (const each of restore) each()
  }
}

function checkOptimizer(
  optimizer: object,
  weights: readonly LayerVariable[],
  trained: WeakMap<object, readonly LayerVariable[]>,
): void {
  const before = trained.get(optimizer)
  const same = before?.length === weights.length && before.every((weight, i) => weight === weights[i])
  if (!same && hasState(optimizer)) {
    throw new FourierFTError(
      'INVALID_STATE',
      'the optimizer has moments of other weights than those of the active adapters; call model.compile() with a new optimizer first',
      { option: 'optimizer' },
    )
  }
  trained.set(optimizer, weights)
}
