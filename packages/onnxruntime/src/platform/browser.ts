/**
 * Browsers: ONNX Runtime is given, for it has several builds, and who imports one by himself puts a second into every bundle; models come
 * by URL, and there is no native kernel.
 */
import { FourierFTError } from '@fourierft/core'
import type { Platform } from './platform.js'

export const platform: Platform = {
  async loadOrt() {
    throw new FourierFTError(
      'UNSUPPORTED',
      "ort: in a browser ONNX Runtime is given: import * as ort from 'onnxruntime-web' (or another build of it), createSession(model, { ort })",
      { option: 'ort' },
    )
  },
  pathOf: () => undefined,
  readFile: noFiles,
  openFile: noFiles,
  async openNative() {
    throw new Error('there is no native kernel in a browser')
  },
}

async function noFiles(path: string): Promise<never> {
  throw new FourierFTError('UNSUPPORTED', `${path}: there are no files here; give a URL or bytes`, {
    file: path,
  })
}
