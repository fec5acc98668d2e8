/** Table of contents of `@fourierft/core`. */
export type { FloatArray, Layer } from './adapter/layer.js'
export type {
  AdaptedLinear,
  AdapterBytes,
  ApplyOptions,
  Backend,
  LinearGradients,
  Strategy,
} from './backend.js'
export type { Entries, EntriesRecipe, Shape } from './entries/entries.js'
export { type ErrorCode, type ErrorDetails, FourierFTError } from './errors.js'
