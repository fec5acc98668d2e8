/** The conformance suite on `onnxruntime-web-wasm` in a browser. */
import { testBackend } from '@fourierft/conformance/vitest'
import * as ort from 'onnxruntime-web'
import { createOnnxRuntimeBackend } from '../../src/conformance.js'
import { KNOWN_GAPS } from '../known-gaps.js'
import { setWasmPaths } from './set-wasm-paths.js'

setWasmPaths()

testBackend(() => createOnnxRuntimeBackend('web-wasm', { ort }), {
  quick: true,
  lacks: KNOWN_GAPS,
})
