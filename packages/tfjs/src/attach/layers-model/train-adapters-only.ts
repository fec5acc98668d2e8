/**
 * `fit`, `fitDataset` and `trainOnBatch` of an attached model: the user's own, made to train the active adapters and nothing else.
 * `evaluateDataset`, which waits between batches, keeps the adapters that it began with.
 *
 * TensorFlow.js collects the weights to train in `compile`, so a model that was compiled before it was attached (or before the adapter
 * was switched) would train its kernels. Here the list is set for the time of each call, which works before and after `compile` alike.
 * Each step and each batch of the call's own validation runs with the adapters that the training began with, whatever is set meanwhile.
 * Optimizers keep their moments by position in the list of weights: one that has moments of other weights is refused.
 */
import { FourierFTError } from '@fourierft/core'
import type { LayersModel, LayerVariable } from '@tensorflow/tfjs-layers'
import { hasState, type TrainingModel, trainingModel } from '../../layers-internals.js'
import type { AttachedState } from '../attachable-model.js'
import { overrideProperty } from '../override-property.js'

/** Runs one step of a training. */
type Step = <R>(run: () => R) => R

/** @returns puts the user's methods back */
export function trainAdaptersOnly(model: LayersModel, { train, call }: AttachedState): () => void {
  const trained = new WeakMap<object, readonly LayerVariable[]>()

  /** @param prepare what else is laid over the model for the time of the training */
  const during = <T>(run: () => Promise<T>, prepare: (step: Step) => (() => void)[] = () => []) =>
    train(async (weights, step) => {
      const training = trainingModel(model)
      const collected = training.collectedTrainableWeights
      // Not compiled: TensorFlow.js has its own words for it.
      if (!collected) return run()
      checkOptimizer(model.optimizer, weights, trained)
      training.collectedTrainableWeights = [...weights]
      const restore = [
        overrideProperty(training, 'checkTrainableWeightsConsistency', () => {}),
        stepsWith(training, step),
        ...prepare(step),
      ]
      try {
        return await run()
      } finally {
        for (const each of restore) each()
        training.collectedTrainableWeights = collected
      }
    })
  const { fit, fitDataset, trainOnBatch, evaluateDataset } = model
  const restore = [
    overrideProperty(model, 'fit', (x, y, args) => {
      const validates = args?.validationData !== undefined || (args?.validationSplit ?? 0) > 0
      return during(
        () => fit.call(model, x, y, args),
        (step) => (validates ? [nextTestWith(trainingModel(model), step)] : []),
      )
    }),
    overrideProperty(
      model,
      'fitDataset',
      (dataset, args) =>
        during(
          () => fitDataset.call(model, dataset, args),
          (step) => validationsWith(trainingModel(model), args?.validationData, step),
        ) as ReturnType<typeof fitDataset>,
    ),
    overrideProperty(model, 'evaluateDataset', (dataset, args) =>
      testing(trainingModel(model), call(), () => evaluateDataset.call(model, dataset, args)),
    ),
    overrideProperty(model, 'trainOnBatch', (x, y) => during(() => trainOnBatch.call(model, x, y))),
  ]
  return () => {
    for (const each of restore) each()
  }
}

/** The steps of a training run with its adapters. */
function stepsWith(training: TrainingModel, step: Step): () => void {
  const { makeTrainFunction } = training
  return overrideProperty(training, 'makeTrainFunction', () => {
    const train = makeTrainFunction.call(training)
    return (data) => step(() => train(data))
  })
}

/** The test function that `fit` makes for its own validation; the user's `evaluate` meanwhile makes one of its own. */
function nextTestWith(training: TrainingModel, step: Step): () => void {
  const { makeTestFunction } = training
  let isMade = false
  return overrideProperty(training, 'makeTestFunction', () => {
    makeTestFunction.call(training)
    if (isMade) return
    isMade = true
    const { testFunction } = training
    if (testFunction) training.testFunction = (data) => step(() => testFunction(data))
  })
}

/** Begins an evaluation whose batches run by `step`. */
function testing<T>(training: TrainingModel, step: Step, begin: () => T): T {
  const restore = nextTestWith(training, step)
  try {
    return begin()
  } finally {
    restore()
  }
}

/** `fitDataset` validates by `evaluate` and `evaluateDataset`, with the data that it was given. */
function validationsWith(training: TrainingModel, data: unknown, step: Step): (() => void)[] {
  if (data === undefined || data === null) return []
  const { evaluate, evaluateDataset } = training
  const [xs] = Array.isArray(data) ? data : [undefined]
  return [
    overrideProperty(training, 'evaluate', (x, y, args) => {
      const run = () => evaluate.call(training, x, y, args)
      return x === xs ? testing(training, step, run) : run()
    }),
    overrideProperty(training, 'evaluateDataset', (dataset, args) => {
      const run = () => evaluateDataset.call(training, dataset, args)
      return (dataset as unknown) === data ? testing(training, step, run) : run()
    }),
  ]
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
