/** The main entry of `@fourierft/transformers`. */
export { type AttachOptions, attach } from './attach.js'
export { type LoadPeftModelOptions, loadPeftModel, type PeftModel } from './load-peft-model.js'
export type { LoadOptions, ModelAdapters } from './model-adapters.js'
