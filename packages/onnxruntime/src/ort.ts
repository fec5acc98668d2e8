/** The part of ONNX Runtime that this package uses; `onnxruntime-node`, `onnxruntime-web` and their builds all have it. */
import type * as Common from 'onnxruntime-common'

/** The module `onnxruntime-node` or `onnxruntime-web`, or the copy of one of them that another package brings. */
export type Ort = Pick<typeof Common, 'InferenceSession' | 'Tensor' | 'env' | 'registerBackend'>
