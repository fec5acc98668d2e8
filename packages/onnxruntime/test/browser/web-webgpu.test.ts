/** The conformance suite on `onnxruntime-web-webgpu` in a browser, on the machine's GPU or on a software GPU. */
import { testBackend } from '@fourierft/conformance/vitest'
import * as ort from 'onnxruntime-web'
import { createOnnxRuntimeBackend } from '../../src/conformance.js'
import { KNOWN_GAPS } from '../known-gaps.js'
import { setWasmPaths } from './set-wasm-paths.js'

setWasmPaths()

testBackend(() => createOnnxRuntimeBackend('web-webgpu', { ort }), {
  quick: true,
  lacks: KNOWN_GAPS,
})
