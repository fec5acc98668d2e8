/** Tells `onnxruntime-web` where its WebAssembly is: Vite bundles the module, away from these files. */
import { env } from 'onnxruntime-web'
import mjs from 'onnxruntime-web/ort-wasm-simd-threaded.jsep.mjs?url'
import wasm from 'onnxruntime-web/ort-wasm-simd-threaded.jsep.wasm?url'

export function serveWasm(): void {
  env.wasm.wasmPaths = { mjs, wasm }
}
