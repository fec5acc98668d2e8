/** Table of contents of `@fourierft/core/conformance`: the interface of a backend, and the parts to make one. */
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
