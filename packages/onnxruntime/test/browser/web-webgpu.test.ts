/** The conformance suite on `onnxruntime-web-webgpu` in a browser, on the machine's own GPU or a software one. */
import { testBackend } from '@fourierft/conformance/vitest'
import * as ort from 'onnxruntime-web'
import { createOnnxRuntimeBackend } from '../../src/conformance.js'
import { LACKS } from '../lacks.js'
import { serveWasm } from './serve-wasm.js'

serveWasm()

testBackend(() => createOnnxRuntimeBackend('web-webgpu', { ort }), {
  quick: true,
  lacks: LACKS,
})
