/** The conformance suite on `onnxruntime-web-wasm` in a browser. */
import { testBackend } from '@fourierft/conformance/vitest'
import * as ort from 'onnxruntime-web'
import { createOnnxRuntimeBackend } from '../../src/conformance.js'
import { LACKS } from '../lacks.js'
import { serveWasm } from './serve-wasm.js'

serveWasm()

testBackend(() => createOnnxRuntimeBackend('web-wasm', { ort }), {
  quick: true,
  lacks: LACKS,
})
