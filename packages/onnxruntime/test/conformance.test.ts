/** The suite on onnxruntime-node with the native operators. */
import { testBackend } from '@fourierft/conformance/vitest'
import { createOnnxRuntimeBackend } from '../src/backend.js'

testBackend(createOnnxRuntimeBackend, { quick: true })
