/** Selects a TensorFlow.js backend, for tests. */
import '@tensorflow/tfjs-backend-cpu'
import '@tensorflow/tfjs-backend-wasm'
import { ready, setBackend } from '@tensorflow/tfjs-core'

export async function useBackend(name: 'cpu' | 'wasm'): Promise<void> {
  if (!(await setBackend(name))) throw new Error(`TensorFlow.js cannot start the backend '${name}'`)
  await ready()
}
