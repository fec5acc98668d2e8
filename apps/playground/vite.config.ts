import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vite'
import { encoderFiles } from './page-files/encoder-files.js'
import { pageFiles } from './page-files/page-files.js'

const pages = ['index.html', 'encoder.html']

export default defineConfig({
  base: './',
  plugins: [pageFiles(), encoderFiles()],
  // WebAssembly is all that the first page asks of ONNX Runtime; its binary is half the size without the rest.
  resolve: { alias: [{ find: /^onnxruntime-web$/, replacement: 'onnxruntime-web/wasm' }] },
  // TensorFlow.js and its three backends are what is large; a backend is fetched when it is chosen.
  build: {
    target: 'es2022',
    chunkSizeWarningLimit: 2000,
    rolldownOptions: { input: pages.map((page) => fileURLToPath(new URL(page, import.meta.url))) },
  },
})
