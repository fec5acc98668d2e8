import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vite'
import { encoderFiles } from './page-files/encoder-files.js'
import { pageFiles } from './page-files/page-files.js'

const pages = ['index.html', 'encoder.html', 'classifier.html']

export default defineConfig({
  base: './',
  plugins: [pageFiles(), encoderFiles()],
  // The first page uses ONNX Runtime on WebAssembly only, whose binary is half the size of the full one.
  resolve: { alias: [{ find: /^onnxruntime-web$/, replacement: 'onnxruntime-web/wasm' }] },
  // The worker imports files of its own on demand, for example ONNX Runtime.
  worker: { format: 'es' },
  // TensorFlow.js and its three backends make up most of the size; a backend is fetched when it is chosen.
  build: {
    target: 'es2022',
    chunkSizeWarningLimit: 2000,
    rolldownOptions: { input: pages.map((page) => fileURLToPath(new URL(page, import.meta.url))) },
  },
})
