/**
 * The conformance suite on `onnxruntime-web/webgpu`, the build that transformers.js uses. It has another WebGPU provider than `onnxruntime-web`.
 */
import { testBackend } from '@fourierft/conformance/vitest'
import mjs from 'onnxruntime-web/ort-wasm-simd-threaded.asyncify.mjs?url'
import wasm from 'onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm?url'
import * as ort from 'onnxruntime-web/webgpu'
import { createOnnxRuntimeBackend } from '../../src/conformance.js'
import { KNOWN_GAPS } from '../known-gaps.js'

ort.env.wasm.wasmPaths = { mjs, wasm }

testBackend(() => createOnnxRuntimeBackend('web-webgpu', { ort }), {
  quick: true,
  levels: [4, 5],
  lacks: KNOWN_GAPS,
})
