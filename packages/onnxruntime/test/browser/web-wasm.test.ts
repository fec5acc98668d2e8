/** The conformance suite on `onnxruntime-web-wasm` in a browser. */
import { testBackend } from '@fourierft/conformance/vitest'
import * as ort from 'onnxruntime-web'
import { createOnnxRuntimeBackend } from '../../src/backend.js'
import { serveWasm } from './serve-wasm.js'

serveWasm()

// All levels except 2: a session does not write adapters.
testBackend(() => createOnnxRuntimeBackend('web-wasm', { ort }), {
  quick: true,
  levels: [1, 3, 4, 5, 6, 7, 8],
})
