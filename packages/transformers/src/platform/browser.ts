/** Browsers: ONNX Runtime comes with transformers.js, and models are bytes. */
import { FourierFTError } from '@fourierft/core'
import type { Platform } from './platform.js'

export const platform: Platform = {
  loadOrt: async () => undefined,
  envOfCommonJsCopy: () => undefined,
  hubEndpoint: () => undefined,
  isDirectory: async () => false,
  isFile: async () => false,
  async readFile(path) {
    throw new FourierFTError('IO_ERROR', `${path}: browsers cannot read files`, { file: path })
  },
  async readDataFile(file) {
    throw new FourierFTError('UNSUPPORTED', `${file}: browsers cannot read files by their paths`, {
      advice: 'give a File, or a URL',
      file: String(file),
    })
  },
  loadCsvParser: async () => (await import('csv-parse/browser/esm/sync')).parse,
  async writeTemporaryModel() {
    throw new FourierFTError('UNSUPPORTED', 'browsers cannot write files')
  },
}
