/**
 * The pieces of a model with adapters, for `@fourierft/server`, which chooses the adapters of each run itself. Any release may change these exports.
 */
export type { ApplicableAdapter, ReplacedModule, SessionAdapter } from '@fourierft/onnxruntime/host'
export { attach } from './attach.js'
export type { ClassLabels } from './class-labels.js'
export type { PipelineLike } from './library.js'
export type { ModelAdapters, RunPart, Serving } from './model-adapters.js'
export type { DividedAdapter, MergedParts, ModelHost } from './model-host.js'
export type { ModelPart, RunArguments } from './model-part.js'
