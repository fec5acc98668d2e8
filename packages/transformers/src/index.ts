/** Table of contents of `@fourierft/transformers`. */
export { type AttachOptions, attach } from './attach.js'
export type { LoadOptions, ModelAdapters } from './model-adapters.js'
