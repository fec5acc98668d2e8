/**
 * The suite's small cases on the native operators and on the portable functions, in `onnxruntime-node` and in `onnxruntime-web`'s wasm.
 * `conformance.slow.test.ts` has the large ones, `webgpu.slow.test.ts` WebGPU, and `browser/` the browsers.
 */
import { testBackend } from '@fourierft/conformance/vitest'
import { describe } from 'vitest'
import { createOnnxRuntimeBackend } from '../src/backend.js'

// All but level 2: a session reads adapters and writes none.
const levels = [1, 3, 4, 5, 6, 7, 8] as const

describe.each(['native', 'cpu', 'web-wasm'] as const)('onnxruntime-%s', (kind) =>
  testBackend(() => createOnnxRuntimeBackend(kind), { levels, quick: true }),
)
