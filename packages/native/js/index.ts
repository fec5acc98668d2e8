/** Table of contents of `@fourierft/native`. */
export type { Activations } from './addon.js'
export type { CudaDevice, OnnxDevice, OnnxExecutionProvider } from './cuda-provider.js'
export type { OnnxDeviceTensor } from './device-tensor.js'
export {
  type HalfType,
  type Kernel,
  type KernelGradients,
  type KernelLayer,
  type KernelOptions,
  kernel,
  kernelProblem,
} from './kernel.js'
export { loadedLibraries } from './loaded-libraries.js'
export type { OnnxType } from './onnx-types.js'
export {
  type OnnxInputs,
  type OnnxRunOptions,
  type OnnxRuntime,
  type OnnxSession,
  type OnnxSessionOptions,
  type OnnxTensor,
  type OnnxValue,
  openOnnxRuntime,
} from './onnxruntime.js'
