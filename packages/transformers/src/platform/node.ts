/** Node: transformers.js imports `onnxruntime-node` and opens models by their paths. */
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { FourierFTError } from '@fourierft/core'
import type { Platform } from './platform.js'

export const platform: Platform = {
  async loadOrt() {
    try {
      const { resolve } = createRequire(import.meta.url)
      // Resolves from transformers.js, to get the copy that it uses.
      return createRequire(resolve('@huggingface/transformers'))('onnxruntime-node')
    } catch {
      return undefined
    }
  },
  envOfCommonJsCopy() {
    try {
      // `require` keeps the modules that it has loaded in its cache.
      const require = createRequire(import.meta.url)
      return require.cache[require.resolve('@huggingface/transformers')]?.exports.env
    } catch {
      return undefined
    }
  },
  hubEndpoint: () => process.env.HF_ENDPOINT || undefined,
  isDirectory: (path) =>
    stat(path).then(
      (stats) => stats.isDirectory(),
      () => false,
    ),
  isFile: (path) =>
    stat(path).then(
      (stats) => stats.isFile(),
      () => false,
    ),
  async readFile(path) {
    try {
      return await readFile(path)
    } catch (cause) {
      throw new FourierFTError('IO_ERROR', `${path} could not be read: ${(cause as Error).message}`, {
        file: path,
        cause,
      })
    }
  },
  async readDataFile(file, maxBytes) {
    const path = String(file)
    try {
      const stats = await stat(file)
      // Devices and pipes have no size, and may never end.
      if (!stats.isFile()) throw new Error('it is not a file')
      if (stats.size > maxBytes)
        throw new FourierFTError(
          'FILE_TOO_LARGE',
          `${path}: it has ${stats.size} bytes; the limit is ${maxBytes}`,
          {
            file: path,
            expected: maxBytes,
            received: stats.size,
          },
        )
      return await readFile(file)
    } catch (cause) {
      if (FourierFTError.isInstance(cause)) throw cause
      const { code, message } = cause as NodeJS.ErrnoException
      if (code === 'ENOENT')
        throw new FourierFTError('FILE_NOT_FOUND', `${path}: there is no such file`, { file: path, cause })
      throw new FourierFTError('IO_ERROR', `${path} could not be read: ${message}`, { file: path, cause })
    }
  },
  loadCsvParser: async () => (await import('csv-parse/sync')).parse,
  async writeTemporaryModel(model) {
    const folder = await mkdtemp(join(tmpdir(), 'fourierft-'))
    await mkdir(join(folder, 'onnx'))
    await writeFile(join(folder, 'onnx/model.onnx'), model)
    return { folder, remove: () => rm(folder, { recursive: true, force: true }) }
  },
}
