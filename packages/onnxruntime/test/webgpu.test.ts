/**
 * `onnxruntime-node`'s WebGPU execution provider: the machine's own adapter, or SwiftShader (Vulkan on the CPU), which Debian's chromium
 * brings. That one proves results, never speed.
 */
import { existsSync } from 'node:fs'
import { testBackend } from '@fourierft/conformance/vitest'
import { describe, test } from 'vitest'
import { createOnnxRuntimeBackend } from '../src/backend.js'

const SWIFTSHADER = '/usr/lib/chromium/vk_swiftshader_icd.json'

// Beside the drivers that are there. ONNX Runtime looks for adapters once in a process.
if (existsSync(SWIFTSHADER)) process.env.VK_ADD_DRIVER_FILES ??= SWIFTSHADER

const opened = await createOnnxRuntimeBackend('webgpu').catch((error: Error) => error)
if (opened instanceof Error) {
  test.skip(`onnxruntime-webgpu (skipped: ${opened.message})`, () => {})
} else {
  // All but level 2: a session reads adapters and writes none.
  describe('onnxruntime-webgpu', () =>
    testBackend(() => opened, { levels: [1, 3, 4, 5, 6, 7, 8], quick: true }))
}
