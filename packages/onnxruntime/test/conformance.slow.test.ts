/** The whole conformance suite on the native operators. */
import { testBackend } from '@fourierft/conformance/vitest'
import { createOnnxRuntimeBackend } from '../src/conformance.js'
import { KNOWN_GAPS } from './known-gaps.js'

testBackend(() => createOnnxRuntimeBackend('native'), { lacks: KNOWN_GAPS })
