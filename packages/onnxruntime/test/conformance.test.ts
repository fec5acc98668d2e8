/**
 * The suite on the native operators and on the portable functions, in `onnxruntime-node` and in `onnxruntime-web`'s wasm. WebGPU has
 * `webgpu.test.ts`, browsers have `browser/`.
 */
import { testBackend } from '@fourierft/conformance/vitest'
import { describe } from 'vitest'
import { createOnnxRuntimeBackend } from '../src/backend.js'

// All but level 2: a session reads adapters and writes none.
const levels = [1, 3, 4, 5, 6, 7, 8] as const

describe('onnxruntime-native', () => testBackend(() => createOnnxRuntimeBackend('native'), { levels }))

describe.each(['cpu', 'web-wasm'] as const)('onnxruntime-%s', (kind) =>
  testBackend(() => createOnnxRuntimeBackend(kind), { levels, quick: true }),
)
