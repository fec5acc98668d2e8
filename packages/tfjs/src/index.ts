/** Table of contents of `@fourierft/tfjs`. */
export { disposeTables, type FourierLinearOptions, fourierLinear, type LayerSpec } from './fourier-linear.js'
export type { TfjsStrategy } from './strategies/choose-strategy.js'
export { TableCache } from './table-cache.js'
