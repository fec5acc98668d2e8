/** Browsers: `onnxruntime-web`, models by URL, no native kernel. */
import { FourierFTError } from '@fourierft/core'
import type { Platform } from './platform.js'

export const platform: Platform = {
  loadOrt: () => import('onnxruntime-web'),
  pathOf: () => undefined,
  async readFile(path) {
    throw new FourierFTError('UNSUPPORTED', `${path}: there are no files here; give a URL or bytes`, {
      file: path,
    })
  },
  async openNative() {
    throw new Error('there is no native kernel in a browser')
  },
}
