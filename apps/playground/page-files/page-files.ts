/** Emits the files that the digits page fetches: the base model, the digits and TensorFlow.js's WebAssembly. None of them is committed here. */
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { baseFolder, firstDigits, loadDigits } from '@fourierft/quickstart'
import type { Plugin } from 'vite'
import { packDigits } from '../src/packed-digits.js'

/** A small number, so that the first score takes little time on a slow machine. */
const testDigits = 500

const wasmFiles = [
  'tfjs-backend-wasm.wasm',
  'tfjs-backend-wasm-simd.wasm',
  'tfjs-backend-wasm-threaded-simd.wasm',
]

export function pageFiles(): Plugin {
  return {
    name: 'page-files',
    apply: 'build',
    async generateBundle() {
      const emit = (fileName: string, source: Uint8Array) =>
        this.emitFile({ type: 'asset', fileName, source })
      for (const name of ['config.json', 'model.safetensors'])
        emit(`base/${name}`, await readFile(join(baseFolder, name)))
      const { adaptation, test } = await loadDigits()
      emit('digits/adaptation.bin', packDigits(adaptation))
      emit('digits/test.bin', packDigits(firstDigits(test, testDigits)))
      const wasm = dirname(createRequire(import.meta.url).resolve('@tensorflow/tfjs-backend-wasm'))
      for (const name of wasmFiles) emit(`wasm/${name}`, await readFile(join(wasm, name)))
    },
  }
}
