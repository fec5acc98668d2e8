/** Which TensorFlow.js the experiments compute with: the native binding where it is installed, WebAssembly where it is not. */
import { useWasm } from '@fourierft/quickstart'
import * as tf from '@tensorflow/tfjs-core'

/** To be called once, before anything is computed. @returns the name of the backend */
export async function startTensorFlow(): Promise<string> {
  // TensorFlow reads these when it is loaded: no messages but errors, and sums in the same order on every x64 processor.
  process.env.TF_CPP_MIN_LOG_LEVEL ??= '3'
  process.env.TF_ENABLE_ONEDNN_OPTS ??= '0'
  try {
    await import('@tensorflow/tfjs-node')
  } catch {
    await useWasm()
    return 'TensorFlow.js on WebAssembly'
  }
  await tf.setBackend('tensorflow')
  return 'TensorFlow.js on TensorFlow (tfjs-node)'
}
