/** The whole conformance suite on the native operators and on the portable functions of `onnxruntime-node`. */
import { testBackend } from '@fourierft/conformance/vitest'
import { describe } from 'vitest'
import { createOnnxRuntimeBackend } from '../src/conformance.js'
import { KNOWN_GAPS } from './known-gaps.js'

describe.each(['native', 'cpu'] as const)('onnxruntime-%s', (kind) =>
  testBackend(() => createOnnxRuntimeBackend(kind), { lacks: KNOWN_GAPS }),
)
