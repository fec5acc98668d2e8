/** Makes the ONNX Runtime of transformers.js load its WebAssembly from this server, not from a CDN. */
import { env } from '@huggingface/transformers'
import mjs from 'onnxruntime-web/ort-wasm-simd-threaded.asyncify.mjs?url'
import binary from 'onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm?url'

export function serveWasm(): void {
  const { wasm } = env.backends.onnx
  if (wasm) wasm.wasmPaths = { mjs, wasm: binary }
}
