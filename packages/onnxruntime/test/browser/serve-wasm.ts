/** Where `onnxruntime-web` finds its WebAssembly: Vite moves the module into a bundle of its own, away from these files. */
import { env } from 'onnxruntime-web'
import mjs from 'onnxruntime-web/ort-wasm-simd-threaded.jsep.mjs?url'
import wasm from 'onnxruntime-web/ort-wasm-simd-threaded.jsep.wasm?url'

export function serveWasm(): void {
  env.wasm.wasmPaths = { mjs, wasm }
}
