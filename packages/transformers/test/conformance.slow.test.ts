/** The whole suite on layers that transformers.js loads and runs, on the native kernel. */
import { testBackend } from '@fourierft/conformance/vitest'
import { createTransformersBackend } from '../src/conformance.js'
import { LACKS } from './lacks.js'

testBackend(() => createTransformersBackend({ native: true }), { lacks: LACKS })
