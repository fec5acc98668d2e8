/** The main entry of `@fourierft/onnxruntime`. */

export {
  binaryCrossEntropy,
  type ContrastiveOptions,
  type CrossEntropyOptions,
  contrastive,
  cosineSimilarity,
  crossEntropy,
  type Loss,
  meanSquaredError,
  type PairOptions,
  scalarLoss,
} from '@fourierft/onnx'
export type { AdaptedSession, RunOptions } from './adapted-session.js'
export { createSession, type SessionOptions } from './create-session.js'
export { type MergedModel, type MergeModelOptions, mergeModel } from './merge-model.js'
export type { GivenModel, ModelBytes, ModelSource } from './model-source.js'
export { adviceFor, type ModuleNames, readModuleNames, withoutAbsent } from './module-names.js'
export { registerFourierFTBackend } from './native-backend.js'
export type { Ort } from './ort.js'
export type { CountedBatches, Dataset } from './trainer/dataset.js'
export { type AdapterEvaluation, evaluate } from './trainer/evaluate.js'
export type {
  BestBy,
  CheckpointOptions,
  EpochReport,
  FitCallbacks,
  FitOptions,
  FitReport,
} from './trainer/fit.js'
export type { TrainerMemory } from './trainer/fitting-training.js'
export type { EvaluateOptions, Evaluation, Metric } from './trainer/metric.js'
export type { Trainable } from './trainer/trainable.js'
export {
  createTrainer,
  type StepReport,
  type Trainer,
  type TrainerOptions,
  type TrainingBatch,
} from './trainer/trainer.js'
