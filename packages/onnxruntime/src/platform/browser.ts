/**
 * Browsers: users pass ONNX Runtime, because it has several builds and an import here would put a second one into every bundle. Models come by
 * URL, and there is no native kernel.
 */
import { FourierFTError } from '@fourierft/core'
import type { Platform } from './platform.js'

export const platform: Platform = {
  async loadOrt() {
    throw new FourierFTError('UNSUPPORTED', 'ort: expected an ONNX Runtime; browsers have no default', {
      advice:
        "import * as ort from 'onnxruntime-web' (or another build of it), and call createSession(model, { ort })",
      option: 'ort',
    })
  },
  localPath: () => undefined,
  readFile: noFiles,
  openFile: noFiles,
  async openNativeKernel() {
    throw new Error('there is no native kernel in a browser')
  },
}

async function noFiles(path: string): Promise<never> {
  throw new FourierFTError('UNSUPPORTED', `${path}: a browser has no files`, {
    advice: 'give a URL or bytes',
    file: path,
  })
}
