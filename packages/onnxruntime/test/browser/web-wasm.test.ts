/** The conformance suite on `onnxruntime-web-wasm` in a browser. */
import { testBackend } from '@fourierft/conformance/vitest'
import * as ort from 'onnxruntime-web'
import { createOnnxRuntimeBackend } from '../../src/backend.js'
import { serveWasm } from './serve-wasm.js'

serveWasm()

// All but level 2: a session reads adapters and writes none.
testBackend(() => createOnnxRuntimeBackend('web-wasm', { ort }), {
  quick: true,
  levels: [1, 3, 4, 5, 6, 7, 8],
})
