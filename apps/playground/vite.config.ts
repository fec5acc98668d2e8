import { defineConfig } from 'vite'
import { pageFiles } from './page-files/page-files.js'

export default defineConfig({
  base: './',
  plugins: [pageFiles()],
  // WebAssembly is all that is asked of ONNX Runtime here; its binary is half the size without the rest.
  resolve: { alias: [{ find: /^onnxruntime-web$/, replacement: 'onnxruntime-web/wasm' }] },
  // TensorFlow.js and its three backends are what is large; a backend is fetched when it is chosen.
  build: { target: 'es2022', chunkSizeWarningLimit: 2000 },
})
