/** Reads an adapter from a directory. Node only. */
import { constants } from 'node:fs'
import { type FileHandle, open, readdir, stat } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { FourierFTError } from '../../errors.js'
import {
  type AdapterFiles,
  CONFIG_FILE,
  checkSize,
  ioError,
  MAX_CONFIG_BYTES,
  MODEL_FILE,
  notFound,
} from '../adapter-files.js'
import { JOURNAL } from '../write-directory.js'

/** Most attempts to read the files. Reading is repeated until both come from the same save. */
const ATTEMPTS = 20
/** Most subfolders that an error names. */
const MAX_LISTED = 5

export async function isDirectory(path: string): Promise<boolean> {
  return stat(path).then(
    (stats) => stats.isDirectory(),
    () => false,
  )
}

/**
 * Reads the two files. Those of a save that is committed but not finished take precedence: see `writeDirectory`.
 *
 * @throws {FourierFTError} `FILE_NOT_FOUND`, `FILE_TOO_LARGE`, `IO_ERROR`
 */
export async function readDirectory(root: string, maxBytes: number, subfolder = ''): Promise<AdapterFiles> {
  const directory = join(root, subfolder)
  if (!(await isDirectory(directory))) {
    throw notFound(
      directory,
      `expected a directory with ${CONFIG_FILE} and ${MODEL_FILE}`,
      subfolder === '' ? undefined : await subfolderAdvice(root, root),
    )
  }
  const names = { config: join(directory, CONFIG_FILE), model: join(directory, MODEL_FILE) }
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const before = await findBoth(directory, root)
    const config = await readFile(before.config, Math.min(maxBytes, MAX_CONFIG_BYTES))
    const model = await readFile(before.model, maxBytes)
    const after = await findBoth(directory, root)
    const unchanged = before.config.stamp === after.config.stamp && before.model.stamp === after.model.stamp
    if (config && model && unchanged) return { config, model, names }
  }
  throw ioError(directory, 'its files change faster than they can be read')
}

interface FoundFile {
  readonly path: string
  readonly size: number
  /** Identifies the content: it stays the same when the file is renamed. */
  readonly stamp: string
}

async function findBoth(directory: string, root: string): Promise<{ config: FoundFile; model: FoundFile }> {
  const config = await find(directory, CONFIG_FILE, root)
  const model = await find(directory, MODEL_FILE, root)
  return { config, model }
}

async function find(directory: string, file: string, root: string): Promise<FoundFile> {
  const found = (await fileAt(join(directory, JOURNAL, file))) ?? (await fileAt(join(directory, file)))
  if (found) return found
  const pickle = file === MODEL_FILE && (await fileAt(join(directory, 'adapter_model.bin')))
  const [problem, advice] = pickle
    ? [
        'the directory contains adapter_model.bin, a pickle, which is never loaded',
        'save the adapter in PEFT with safe_serialization=True',
      ]
    : [`expected ${CONFIG_FILE} and ${MODEL_FILE} in ${directory}`, await subfolderAdvice(directory, root)]
  throw notFound(join(directory, file), problem, advice)
}

/** Names the subfolders that hold an adapter: PEFT saves an adapter with a name into a subfolder of that name. */
async function subfolderAdvice(directory: string, root: string): Promise<string> {
  const found: string[] = []
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => [])
  for (const { name } of entries) {
    if (name.startsWith('.')) continue
    if (await fileAt(join(directory, name, CONFIG_FILE)).catch(() => undefined)) found.push(name)
    if (found.length > MAX_LISTED) break
  }
  const [first] = found
  if (first === undefined) return 'if PEFT saved the adapter under a name, pass the subfolder of that name'
  const [subfolder = '', ...others] = found.map((name) =>
    relative(root, join(directory, name)).replaceAll('\\', '/'),
  )
  const list = [subfolder, ...others].slice(0, MAX_LISTED).map((name) => `'${name}'`)
  const location =
    others.length === 0
      ? `the subfolder ${list[0]} contains an adapter`
      : `these subfolders contain adapters: ${list.join(', ')}${found.length > MAX_LISTED ? ', …' : ''}`
  return `${location}; pass { subfolder: '${subfolder}' }`
}

async function fileAt(path: string): Promise<FoundFile | undefined> {
  const stats = await stat(path, { bigint: true }).catch((cause) => {
    if (cause.code === 'ENOENT' || cause.code === 'ENOTDIR') return undefined
    throw ioError(path, 'the file could not be read', { cause })
  })
  if (!stats) return undefined
  if (!stats.isFile()) throw ioError(path, 'expected a regular file')
  return { path, size: Number(stats.size), stamp: `${stats.dev} ${stats.ino} ${stats.mtimeNs} ${stats.size}` }
}

/** Returns the content, or undefined if the file has been moved or has shrunk since it was found. */
async function readFile({ path, size }: FoundFile, maxBytes: number): Promise<Uint8Array | undefined> {
  checkSize(size, maxBytes, path)
  try {
    // Another file may be at the path by now. Opening a pipe would wait for its writer, and a device may never end.
    const handle = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0))
    try {
      const stats = await handle.stat()
      if (!stats.isFile()) throw ioError(path, 'expected a regular file')
      checkSize(stats.size, maxBytes, path)
      return await readBytes(handle, stats.size)
    } finally {
      await handle.close()
    }
  } catch (cause) {
    if (FourierFTError.isInstance(cause)) throw cause
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return undefined
    throw ioError(path, 'the file could not be read', { cause })
  }
}

/** Reads exactly `size` bytes; returns undefined if there are fewer. */
async function readBytes(handle: FileHandle, size: number): Promise<Uint8Array | undefined> {
  const bytes = new Uint8Array(size)
  for (let end = 0; end < size; ) {
    const { bytesRead } = await handle.read(bytes, end, size - end, end)
    if (bytesRead === 0) return undefined
    end += bytesRead
  }
  return bytes
}
