/**
 * The small cases of the conformance suite on the native operators in `onnxruntime-node`, and on the portable functions in the wasm of
 * `onnxruntime-web`. The large cases, also of the portable functions in `onnxruntime-node`, are in `conformance.slow.test.ts`, WebGPU in
 * `webgpu.slow.test.ts`, and browsers in `browser/`.
 */
import { testBackend } from '@fourierft/conformance/vitest'
import { describe } from 'vitest'
import { createOnnxRuntimeBackend } from '../src/conformance.js'
import { KNOWN_GAPS } from './known-gaps.js'

describe.each(['native', 'web-wasm'] as const)('onnxruntime-%s', (kind) =>
  testBackend(() => createOnnxRuntimeBackend(kind), { lacks: KNOWN_GAPS, quick: true }),
)
