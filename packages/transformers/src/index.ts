/** The main entry of `@fourierft/transformers`. */
export { type AttachOptions, attach } from './attach.js'
export { type LoadPeftModelOptions, loadPeftModel, type PeftModel } from './load-peft-model.js'
export type { LoadOptions, ModelAdapters } from './model-adapters.js'
export { type EvaluateOptions, type EvaluationReport, evaluate } from './train/evaluate.js'
export type { Data, DataFormat } from './train/read-rows.js'
export { type TrainingProgress, type TrainingReport, type TrainOptions, train } from './train/train.js'
