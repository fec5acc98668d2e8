/** Chooses the TensorFlow.js backend of the demo: the native binding if it loads, otherwise WebAssembly. */
import { setBackend } from '@tensorflow/tfjs-core'
import { useWasm } from './wasm-products.js'

export const backends = ['node', 'wasm'] as const
export type Backend = (typeof backends)[number]

/**
 * Has to be called once, before the first computation.
 *
 * @param forced the backend to use. Default: `node` if its binding loads, otherwise `wasm`
 * @returns the name of the backend for people
 * @throws Error if `node` is forced and its binding does not load
 */
export async function startTensorFlow(forced?: Backend): Promise<string> {
  if (forced !== 'wasm') {
    const failure = await loadBinding()
    if (failure === undefined) {
      await setBackend('tensorflow')
      return 'TensorFlow.js on TensorFlow (tfjs-node)'
    }
    if (forced === 'node') {
      throw new Error(
        `--backend node: the binding of @tensorflow/tfjs-node does not load (${failure.message.split('\n')[0]}); ` +
          'build it with `npm test`, or use --backend wasm',
        { cause: failure },
      )
    }
  }
  await useWasm()
  return 'TensorFlow.js on WebAssembly'
}

async function loadBinding(): Promise<Error | undefined> {
  // TensorFlow reads these variables when it loads: only errors are printed, and sums have the same order on every x64 processor.
  process.env.TF_CPP_MIN_LOG_LEVEL ??= '3'
  process.env.TF_ENABLE_ONEDNN_OPTS ??= '0'
  try {
    await import('@tensorflow/tfjs-node')
    return undefined
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error))
  }
}
