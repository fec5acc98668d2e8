/** The tests of the backend `tfjs-webgpu`, in a browser. */
import { it } from 'vitest'
import { testDevice } from '../test-device.js'

const adapter = await navigator.gpu?.requestAdapter()

if (!adapter) {
  it.skip('tfjs-webgpu (skipped: this browser has no WebGPU adapter)', () => {})
} else {
  const { vendor, architecture, description } = adapter.info
  testDevice({
    backend: 'webgpu',
    gpu: description || `${vendor} ${architecture}`,
    load: () => import('@tensorflow/tfjs-backend-webgpu'),
  })
}
