/** The tests of the backend `tfjs-webgpu` in Node, on the GPU of the machine or on software. */
import { it } from 'vitest'
import { testDevice } from './test-device.js'
import { webGpuInNode } from './webgpu-in-node.js'

const found = await webGpuInNode()

if ('missing' in found) it.skip(`tfjs-webgpu in Node (skipped: ${found.missing})`, () => {})
else
  testDevice({
    backend: 'webgpu',
    gpu: found.gpu,
    load: () => import('@tensorflow/tfjs-backend-webgpu'),
  })
