/**
 * The suite's small cases on the native operators and on the portable functions, in `onnxruntime-node` and in `onnxruntime-web`'s wasm.
 * `conformance.slow.test.ts` has the large ones, `webgpu.slow.test.ts` WebGPU, and `browser/` the browsers.
 */
import { testBackend } from '@fourierft/conformance/vitest'
import { describe } from 'vitest'
import { createOnnxRuntimeBackend } from '../src/conformance.js'
import { KNOWN_GAPS } from './known-gaps.js'

describe.each(['native', 'cpu', 'web-wasm'] as const)('onnxruntime-%s', (kind) =>
  testBackend(() => createOnnxRuntimeBackend(kind), { lacks: KNOWN_GAPS, quick: true }),
)
