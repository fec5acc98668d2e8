/** An adapter from a directory. Node only. */
import { open, readdir, stat } from 'node:fs/promises'
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

/** A save replaces two files; reading goes on until both are of one save. */
const ATTEMPTS = 20
/** Subfolders that an error names. */
const MAX_ADVICE = 5

export async function isDirectory(path: string): Promise<boolean> {
  return stat(path).then(
    (stats) => stats.isDirectory(),
    () => false,
  )
}

/**
 * Files of a save that was committed and not finished take precedence: see `writeDirectory`.
 *
 * @throws {FourierFTError} `FILE_NOT_FOUND`, `FILE_TOO_LARGE`, `IO_ERROR`
 */
export async function readDirectory(root: string, maxBytes: number, subfolder = ''): Promise<AdapterFiles> {
  const directory = join(root, subfolder)
  if (!(await isDirectory(directory))) {
    const advice = `expected a directory with ${CONFIG_FILE} and ${MODEL_FILE}`
    throw notFound(directory, subfolder === '' ? advice : `${advice}; ${await subfolderAdvice(root, root)}`)
  }
  const names = { config: join(directory, CONFIG_FILE), model: join(directory, MODEL_FILE) }
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const before = await locateBoth(directory, root)
    const config = await readFile(before.config, Math.min(maxBytes, MAX_CONFIG_BYTES))
    const model = await readFile(before.model, maxBytes)
    const after = await locateBoth(directory, root)
    const unchanged = before.config.stamp === after.config.stamp && before.model.stamp === after.model.stamp
    if (config && model && unchanged) return { config, model, names }
  }
  throw ioError(directory, 'its files change faster than they can be read')
}

interface Place {
  readonly path: string
  readonly size: number
  /** Equal for the same content: a rename changes none of it. */
  readonly stamp: string
}

async function locateBoth(directory: string, root: string): Promise<{ config: Place; model: Place }> {
  const config = await locate(directory, CONFIG_FILE, root)
  const model = await locate(directory, MODEL_FILE, root)
  return { config, model }
}

async function locate(directory: string, file: string, root: string): Promise<Place> {
  const place = (await placeOf(join(directory, JOURNAL, file))) ?? (await placeOf(join(directory, file)))
  if (place) return place
  const pickle = file === MODEL_FILE && (await placeOf(join(directory, 'adapter_model.bin')))
  throw notFound(
    join(directory, file),
    pickle
      ? 'there is an adapter_model.bin, a pickle, which is never loaded: save it in PEFT with safe_serialization=True'
      : `expected ${CONFIG_FILE} and ${MODEL_FILE} in ${directory}; ${await subfolderAdvice(directory, root)}`,
  )
}

/** Where adapters lie instead: PEFT saves those that have names into folders of these names. */
async function subfolderAdvice(directory: string, root: string): Promise<string> {
  const found: string[] = []
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => [])
  for (const { name } of entries) {
    if (name.startsWith('.')) continue
    if (await placeOf(join(directory, name, CONFIG_FILE)).catch(() => undefined)) found.push(name)
    if (found.length > MAX_ADVICE) break
  }
  const [first] = found
  if (first === undefined) return 'an adapter that PEFT saved by name lies in a subfolder of that name'
  const [subfolder = '', ...others] = found.map((name) =>
    relative(root, join(directory, name)).replaceAll('\\', '/'),
  )
  const list = [subfolder, ...others].slice(0, MAX_ADVICE).map((name) => `'${name}'`)
  const which =
    others.length === 0
      ? `there is one in subfolder ${list[0]}`
      : `there are some in the subfolders ${list.join(', ')}${found.length > MAX_ADVICE ? ', …' : ''}`
  return `${which}; pass { subfolder: '${subfolder}' }`
}

async function placeOf(path: string): Promise<Place | undefined> {
  const stats = await stat(path, { bigint: true }).catch((cause) => {
    if (cause.code === 'ENOENT' || cause.code === 'ENOTDIR') return undefined
    throw ioError(path, 'the file could not be read', cause)
  })
  if (!stats) return undefined
  if (!stats.isFile()) throw ioError(path, 'expected a regular file')
  return { path, size: Number(stats.size), stamp: `${stats.dev} ${stats.ino} ${stats.mtimeNs} ${stats.size}` }
}

/** Undefined when the file has moved away since it was located. */
async function readFile({ path, size }: Place, maxBytes: number): Promise<Uint8Array | undefined> {
  checkSize(size, maxBytes, path)
  try {
    const handle = await open(path)
    try {
      const bytes = await handle.readFile()
      checkSize(bytes.length, maxBytes, path)
      return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)
    } finally {
      await handle.close()
    }
  } catch (cause) {
    if (FourierFTError.isInstance(cause)) throw cause
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return undefined
    throw ioError(path, 'the file could not be read', cause)
  }
}
