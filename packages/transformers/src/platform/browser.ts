/** Browsers: ONNX Platform is inside of transformers.js or of the bundle, models are bytes. */
import { FourierFTError } from '@fourierft/core'
import type { Platform } from './platform.js'

export const platform: Platform = {
  loadOrt: async () => undefined,
  requiredEnv: () => undefined,
  hubEndpoint: () => undefined,
  isDirectory: async () => false,
  isFile: async () => false,
  async readFile(path) {
    throw new FourierFTError('IO_ERROR', `${path}: there are no files here`, { file: path })
  },
  async writeModel() {
    throw new FourierFTError('UNSUPPORTED', 'there are no files here')
  },
}
