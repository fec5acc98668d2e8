/** Browsers: `onnxruntime-web`, models by URL, no native kernel. */
import { FourierFTError } from '@fourierft/core'
import type { Platform } from './platform.js'

export const platform: Platform = {
  loadOrt: () => import('onnxruntime-web'),
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
