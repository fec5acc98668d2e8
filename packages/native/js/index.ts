/** Table of contents of `@fourierft/native`. */
export type { Activations } from './addon.js'
export {
  type HalfType,
  type Kernel,
  type KernelGradients,
  type KernelLayer,
  type KernelOptions,
  kernel,
  kernelProblem,
} from './kernel.js'
