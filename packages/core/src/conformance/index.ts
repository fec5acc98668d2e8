/** Table of contents of `@fourierft/core/conformance`: what backends and the conformance suite need. */
export type { ApplyOptions, Strategy } from '../spectrum/apply-options.js'
export type { AdaptedLinear, Backend, LinearGradients } from './backend.js'
export {
  type BackendFunctions,
  type BaseLayer,
  type CheckedOptions,
  checkedBackend,
  type LinearFunctions,
} from './checked-backend.js'
export { type CoreBackendOptions, coreBackend, type NativeKernel } from './core-backend.js'
export { singleLayerAdapter } from './single-layer-adapter.js'
