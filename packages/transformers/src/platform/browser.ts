/** Browsers: ONNX Runtime is part of transformers.js or of the bundle, and models are bytes. */
import { FourierFTError } from '@fourierft/core'
import type { Platform } from './platform.js'

export const platform: Platform = {
  loadOrt: async () => undefined,
  envOfRequiredCopy: () => undefined,
  hubEndpoint: () => undefined,
  isDirectory: async () => false,
  isFile: async () => false,
  async readFile(path) {
    throw new FourierFTError('IO_ERROR', `${path}: a browser has no files`, { file: path })
  },
  async writeModel() {
    throw new FourierFTError('UNSUPPORTED', 'a browser has no files')
  },
}
