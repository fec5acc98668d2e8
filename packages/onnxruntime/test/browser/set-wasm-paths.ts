/** Sets the URLs of the WebAssembly of `onnxruntime-web`. Vite moves the JavaScript to another folder, where its relative paths do not work. */
import { env } from 'onnxruntime-web'
import mjs from 'onnxruntime-web/ort-wasm-simd-threaded.jsep.mjs?url'
import wasm from 'onnxruntime-web/ort-wasm-simd-threaded.jsep.wasm?url'

export function setWasmPaths(): void {
  env.wasm.wasmPaths = { mjs, wasm }
}
