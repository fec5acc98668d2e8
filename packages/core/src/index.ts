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
export { type AdamW, type AdamWOptions, type AdamWState, createAdamW, restoreAdamW } from './train/adamw.js'
export { clipGradientNorm } from './train/clip-gradient-norm.js'
export { cosineSchedule, linearSchedule, type Schedule, type ScheduleOptions } from './train/schedule.js'
