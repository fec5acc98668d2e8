/** The part of ONNX Runtime that this package uses. It is the same in `onnxruntime-node`, `onnxruntime-web` and their builds. */
import type * as Common from 'onnxruntime-common'

/** The module `onnxruntime-node` or `onnxruntime-web`, or another package's copy of one of them. */
export type Ort = Pick<typeof Common, 'InferenceSession' | 'Tensor' | 'env' | 'registerBackend'>
