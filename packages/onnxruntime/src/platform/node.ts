/** Node: `onnxruntime-node`, files, and the kernel of `@fourierft/native` if it is installed. */
import { readdirSync } from 'node:fs'
import { lstat, open, readFile, realpath, rename, unlink } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { freemem, totalmem } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { FourierFTError } from '@fourierft/core'
import type { Platform } from './platform.js'

export const platform: Platform = {
  async loadOrt() {
    try {
      return await import('onnxruntime-node')
    } catch (cause) {
      if (!isMissing(cause)) throw cause
      throw new FourierFTError('UNSUPPORTED', 'onnxruntime-node is not installed', {
        advice: 'run npm i onnxruntime-node, or give another copy of ONNX Runtime as the option ort',
        option: 'ort',
        cause,
      })
    }
  },
  localPath(model) {
    if (model instanceof URL) return model.protocol === 'file:' ? fileURLToPath(model) : undefined
    return /^https?:\/\//i.test(model) ? undefined : resolve(model)
  },
  async readFile(path) {
    return withFileErrors(path, async () => ({ bytes: await readFile(path), folder: dirname(path) }))
  },
  async openFile(path) {
    return withFileErrors(path, async () => {
      const [realPath, status] = await Promise.all([realpath(path), lstat(path)])
      const handle = await open(realPath)
      return {
        folder: dirname(realPath),
        name: basename(realPath),
        isLink: status.isSymbolicLink(),
        size: (await handle.stat()).size,
        read: (offset: number, length: number) =>
          withFileErrors(path, async () => {
            const { buffer, bytesRead } = await handle.read(new Uint8Array(length), 0, length, offset)
            return buffer.subarray(0, bytesRead)
          }),
        close: () => handle.close(),
      }
    })
  },
  async writeFile(path, bytes) {
    // A process that was killed leaves this file. The next one overwrites it.
    const temporary = `${path}.tmp`
    try {
      const handle = await open(temporary, 'w')
      try {
        await handle.writeFile(bytes)
        await handle.sync()
      } finally {
        await handle.close()
      }
      await rename(temporary, path)
    } catch (cause) {
      await unlink(temporary).catch(() => undefined)
      throw new FourierFTError('IO_ERROR', `${path} could not be written: ${(cause as Error).message}`, {
        file: path,
        cause,
      })
    }
  },
  nextTask: () => new Promise((resolve) => setImmediate(resolve)),
  memory() {
    // The limit of a container. Without a limit it is 0 or a huge number.
    const limit = process.constrainedMemory() || Number.POSITIVE_INFINITY
    return { free: freemem(), total: Math.min(totalmem(), limit) }
  },
  async openNativeKernel() {
    const { loadedLibraries, openOnnxRuntime } = await importNative()
    const libraries = loadedLibraries()
    const library = libraries.length === 0 ? installedLibrary() : libraries.find(isOnnxRuntime)
    if (library === undefined)
      throw new Error('this process has not loaded the libonnxruntime of onnxruntime-node')
    return openOnnxRuntime(library)
  },
}

async function importNative(): Promise<typeof import('@fourierft/native')> {
  try {
    return await import('@fourierft/native')
  } catch (cause) {
    if (isMissing(cause)) throw new Error('@fourierft/native is not installed', { cause })
    throw cause
  }
}

/** Converts the errors of `read` to `FILE_NOT_FOUND` and `IO_ERROR`. */
async function withFileErrors<T>(path: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read()
  } catch (cause) {
    const code = 'code' in (cause as object) && (cause as { code: unknown }).code
    if (code === 'ENOENT')
      throw new FourierFTError('FILE_NOT_FOUND', `${path}: there is no such file`, { file: path, cause })
    throw new FourierFTError('IO_ERROR', `${path} could not be read: ${(cause as Error).message}`, {
      file: path,
      cause,
    })
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ERR_MODULE_NOT_FOUND'
}

/** Returns whether a path is ONNX Runtime's library on Linux, macOS or Windows. */
function isOnnxRuntime(path: string): boolean {
  return /^(libonnxruntime\.(so|[\d.]*dylib)[\d.]*|onnxruntime\.dll)$/.test(basename(path))
}

/** Returns the library of the installed `onnxruntime-node`. The kernel rejects a library that this process has not loaded. */
function installedLibrary(): string | undefined {
  try {
    const manifest = createRequire(import.meta.url).resolve('onnxruntime-node/package.json')
    const folders = join(dirname(manifest), 'bin')
    return (
      readdirSync(folders)
        .map((binding) => join(folders, binding, process.platform, process.arch))
        .flatMap((folder) => readdirSync(folder).map((name) => join(folder, name)))
        .filter(isOnnxRuntime)
        // On macOS, the binding loads the library with the shortest name; the others are copies with longer versions in their names.
        .sort((a, b) => a.length - b.length)[0]
    )
  } catch {
    return undefined
  }
}
