/**
 * The suite on the native operators and on the portable functions, in `onnxruntime-node` and in `onnxruntime-web`'s wasm. WebGPU has
 * `webgpu.test.ts`, browsers have `browser/`.
 */
import { testBackend } from '@fourierft/conformance/vitest'
import { describe } from 'vitest'
import { createOnnxRuntimeBackend } from '../src/conformance.js'
import { LACKS } from './lacks.js'

describe('onnxruntime-native', () => testBackend(() => createOnnxRuntimeBackend('native'), { lacks: LACKS }))

describe.each(['cpu', 'web-wasm'] as const)('onnxruntime-%s', (kind) =>
  testBackend(() => createOnnxRuntimeBackend(kind), { lacks: LACKS, quick: true }),
)
