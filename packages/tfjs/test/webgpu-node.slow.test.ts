/** The tests of the backend `tfjs-webgpu` in Node, on the GPU of the machine or on software. */
import { it } from 'vitest'
import { webGpuInNode } from './software-vulkan.js'
import { testDevice } from './test-device.js'

const found = await webGpuInNode()

if ('missing' in found) it.skip(`tfjs-webgpu in Node (skipped: ${found.missing})`, () => {})
else
  testDevice({
    backend: 'webgpu',
    adapter: found.adapter,
    load: () => import('@tensorflow/tfjs-backend-webgpu'),
  })
