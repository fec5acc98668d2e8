/** The whole suite on the native operators. */
import { testBackend } from '@fourierft/conformance/vitest'
import { createOnnxRuntimeBackend } from '../src/conformance.js'
import { LACKS } from './lacks.js'

testBackend(() => createOnnxRuntimeBackend('native'), { lacks: LACKS })
