/**
 * Makes `fit`, `fitDataset` and `trainOnBatch` of an attached model train only the active adapters. `evaluateDataset`, which waits between
 * batches, keeps the adapters that were active when it began.
 *
 * TensorFlow.js collects the weights to train in `compile`, so a model that was compiled before it was attached (or before another adapter
 * became active) would train other weights. This file sets the list for the duration of each call, which works before and after `compile`.
 * Each step, and each batch of validation data of the call, runs with the adapters that were active when the training began. Optimizers
 * keep their moments by position in the list of weights: an optimizer that has moments of other weights is rejected.
 */
import { FourierFTError } from '@fourierft/core'
import type { LayersModel, LayerVariable } from '@tensorflow/tfjs-layers'
import { hasState, type TrainingModel, trainingModel } from '../../layers-internals.js'
import type { AttachedState } from '../attachable-model.js'
import { overrideProperty } from '../override-property.js'

/** Runs one training step. */
type Step = <R>(run: () => R) => R

/** Overrides the methods. @returns a function that restores the methods of the model */
export function trainAdaptersOnly(model: LayersModel, { train, call }: AttachedState): () => void {
  const trained = new WeakMap<object, readonly LayerVariable[]>()

  /** @param prepare overrides more properties for the duration of the training */
  const trainWith = <T>(run: () => Promise<T>, prepare: (step: Step) => (() => void)[] = () => []) =>
    train(async (weights, step) => {
      const training = trainingModel(model)
      const collected = training.collectedTrainableWeights
      // The model is not compiled: TensorFlow.js throws its own error.
      if (!collected) return run()
      checkOptimizer(model.optimizer, weights, trained)
      training.collectedTrainableWeights = [...weights]
      const restore = [
        overrideProperty(training, 'checkTrainableWeightsConsistency', () => {}),
        overrideSteps(training, step),
        ...prepare(step),
      ]
      try {
        return await run()
      } finally {
        for (const undo of restore) undo()
        training.collectedTrainableWeights = collected
      }
    })
  const { fit, fitDataset, trainOnBatch, evaluateDataset } = model
  const restore = [
    overrideProperty(model, 'fit', (x, y, args) => {
      const validates = args?.validationData !== undefined || (args?.validationSplit ?? 0) > 0
      return trainWith(
        () => fit.call(model, x, y, args),
        (step) => (validates ? [overrideNextTest(trainingModel(model), step)] : []),
      )
    }),
    overrideProperty(
      model,
      'fitDataset',
      (dataset, args) =>
        trainWith(
          () => fitDataset.call(model, dataset, args),
          (step) => overrideValidations(trainingModel(model), args?.validationData, step),
        ) as ReturnType<typeof fitDataset>,
    ),
    overrideProperty(model, 'evaluateDataset', (dataset, args) =>
      evaluateWith(trainingModel(model), call(), () => evaluateDataset.call(model, dataset, args)),
    ),
    overrideProperty(model, 'trainOnBatch', (x, y) => trainWith(() => trainOnBatch.call(model, x, y))),
  ]
  return () => {
    for (const undo of restore) undo()
  }
}

/** Makes each step of a training run through `step`. */
function overrideSteps(training: TrainingModel, step: Step): () => void {
  const { makeTrainFunction } = training
  return overrideProperty(training, 'makeTrainFunction', () => {
    const train = makeTrainFunction.call(training)
    return (data) => step(() => train(data))
  })
}

/**
 * Makes the batches of the next evaluation run through `step`. `fit` creates the test function for its validation first; a call of
 * `evaluate` by the user during the training creates another one.
 */
function overrideNextTest(training: TrainingModel, step: Step): () => void {
  const { makeTestFunction } = training
  let isCreated = false
  return overrideProperty(training, 'makeTestFunction', () => {
    makeTestFunction.call(training)
    if (isCreated) return
    isCreated = true
    const { testFunction } = training
    if (testFunction) training.testFunction = (data) => step(() => testFunction(data))
  })
}

/** Begins an evaluation whose batches run through `step`. */
function evaluateWith<T>(training: TrainingModel, step: Step, begin: () => T): T {
  const restore = overrideNextTest(training, step)
  try {
    return begin()
  } finally {
    restore()
  }
}

/** `fitDataset` calls `evaluate` or `evaluateDataset` with its validation data; calls with other data are the user's. */
function overrideValidations(training: TrainingModel, data: unknown, step: Step): (() => void)[] {
  if (data === undefined || data === null) return []
  const { evaluate, evaluateDataset } = training
  const [xs] = Array.isArray(data) ? data : [undefined]
  return [
    overrideProperty(training, 'evaluate', (x, y, args) => {
      const run = () => evaluate.call(training, x, y, args)
      return x === xs ? evaluateWith(training, step, run) : run()
    }),
    overrideProperty(training, 'evaluateDataset', (dataset, args) => {
      const run = () => evaluateDataset.call(training, dataset, args)
      return (dataset as unknown) === data ? evaluateWith(training, step, run) : run()
    }),
  ]
}

function checkOptimizer(
  optimizer: object,
  weights: readonly LayerVariable[],
  trained: WeakMap<object, readonly LayerVariable[]>,
): void {
  const before = trained.get(optimizer)
  const isSame = before?.length === weights.length && before.every((weight, i) => weight === weights[i])
  if (!isSame && hasState(optimizer)) {
    throw new FourierFTError(
      'INVALID_STATE',
      'the optimizer has moments of other weights than those of the active adapters',
      { advice: 'call model.compile() with a new optimizer first', option: 'optimizer' },
    )
  }
  trained.set(optimizer, weights)
}
