/** Table of contents of `@fourierft/tfjs`. */
export { AdamW } from './adamw.js'
export type { Adapters, AttachOptions } from './attach/adapters.js'
export { attach } from './attach/attach.js'
export type { ModuleNames } from './attach/named-layers.js'
export { createTfjsBackend, type TfjsBackendName, tfjsBackend } from './backend.js'
export { disposeTables, type FourierLinearOptions, fourierLinear, type LayerSpec } from './fourier-linear.js'
export type { TfjsStrategy } from './strategies/choose-strategy.js'
export { TableCache } from './table-cache.js'
