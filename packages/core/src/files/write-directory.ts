/**
 * Saves the two files of an adapter as one atomic change. Node only.
 *
 * No file system replaces two files at once, so a save has a journal. Both files are written to a staging directory inside the adapter's
 * directory and synced to the disk. One rename turns the staging directory into the journal, and then each file is renamed to its final
 * name. Readers prefer the files of the journal, so its rename is the moment at which the new adapter replaces the old one. After a
 * crash, the next save finishes what is left. Readers that do not know the journal (PEFT) can see the new model with the old configuration
 * between the last two renames; if the configuration did not change, they see no mixture.
 *
 * The package write-file-atomic does not suffice. It replaces a single file, accepts a write that a full disk cut short, and writes through
 * symbolic links, which in the cache of the hub lead to shared blobs.
 */
import {
  type FileHandle,
  lstat,
  mkdir,
  mkdtemp,
  open,
  readdir,
  rename,
  rmdir,
  stat,
  unlink,
} from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { FourierFTError } from '../errors.js'
import type { AdapterBytes } from './adapter-bytes.js'
import { CONFIG_FILE, ioError, MODEL_FILE } from './adapter-files.js'

export const JOURNAL = '.fourierft-save'
/** Age at which the staging directories of killed saves are removed. */
const STALE_MILLISECONDS = 60 * 60 * 1000
/** The names that `mkdtemp` gives to staging directories. */
const STAGING = new RegExp(`^\\${JOURNAL}-[A-Za-z0-9]{6}$`)
/** Most attempts to rename the staging directory while other processes save. */
const ATTEMPTS = 20

/**
 * Creates the directory if it does not exist. After a failure the old adapter is unchanged and nothing else is left.
 *
 * @throws {FourierFTError} `IO_ERROR`
 */
export async function writeDirectory(directory: string, files: AdapterBytes): Promise<void> {
  try {
    const created = await mkdir(directory, { recursive: true })
    try {
      await save(directory, files)
    } catch (error) {
      if (created !== undefined) await removeEmpty(directory, created)
      throw error
    }
  } catch (cause) {
    if (FourierFTError.isInstance(cause)) throw cause
    throw ioError(directory, 'the adapter could not be saved; the directory is unchanged', { cause })
  }
}

async function save(directory: string, files: AdapterBytes): Promise<void> {
  await finishSave(directory)
  const modes = await checkReplaceable(directory)
  await removeStaleStaging(directory)
  const staging = await mkdtemp(join(directory, `${JOURNAL}-`))
  try {
    await writeFile(join(staging, MODEL_FILE), files.model, modes.get(MODEL_FILE))
    await writeFile(join(staging, CONFIG_FILE), files.config, modes.get(CONFIG_FILE))
    await syncDirectory(staging)
    await commit(directory, staging)
  } catch (error) {
    await removeStaging(staging)
    throw error
  }
  try {
    await syncDirectory(directory)
    await finishSave(directory)
  } catch (cause) {
    throw ioError(
      directory,
      `the adapter is saved in ${JOURNAL}, and the next save will move it to its final names`,
      { cause },
    )
  }
}

/** Renames the staging directory to the journal. If another save has just done so, that save is finished first. */
async function commit(directory: string, staging: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await rename(staging, join(directory, JOURNAL))
    } catch (error) {
      if (attempt === ATTEMPTS || !hasCode(error, 'ENOTEMPTY', 'EEXIST', 'EPERM')) throw error
      await finishSave(directory)
    }
  }
}

/** Moves the files of the journal to their final names. Another process may move the same files at the same time. */
async function finishSave(directory: string): Promise<void> {
  const journal = join(directory, JOURNAL)
  for (const file of [MODEL_FILE, CONFIG_FILE]) {
    await rename(join(journal, file), join(directory, file)).catch(ignore('ENOENT'))
  }
  await syncDirectory(directory)
  await rmdir(journal).catch(ignore('ENOENT', 'ENOTEMPTY', 'EEXIST'))
}

/**
 * Checks, before the commit, that each file either does not exist or is a regular file, because a rename cannot replace anything else.
 *
 * @returns the permissions of the files that will be replaced
 */
async function checkReplaceable(directory: string): Promise<Map<string, number>> {
  const modes = new Map<string, number>()
  for (const file of [MODEL_FILE, CONFIG_FILE]) {
    const stats = await stat(join(directory, file)).catch(ignore('ENOENT'))
    if (!stats) continue
    if (!stats.isFile()) throw new Error(`${file} is not a file`)
    modes.set(file, stats.mode & 0o7777)
  }
  return modes
}

async function removeStaleStaging(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (!STAGING.test(name)) continue
    const path = join(directory, name)
    const stats = await lstat(path).catch(ignore('ENOENT'))
    if (stats?.isDirectory() && Date.now() - stats.mtimeMs > STALE_MILLISECONDS) await removeStaging(path)
  }
}

/** Removes a staging directory and the files of a save in it. A directory with any other file stays. */
async function removeStaging(path: string): Promise<void> {
  for (const file of [MODEL_FILE, CONFIG_FILE]) await unlink(join(path, file)).catch(() => undefined)
  await rmdir(path).catch(() => undefined)
}

async function writeFile(path: string, bytes: Uint8Array, mode: number | undefined): Promise<void> {
  const handle = await open(path, 'wx')
  try {
    if (mode !== undefined) await handle.chmod(mode)
    await handle.writeFile(bytes)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Syncs a directory, because a power failure can otherwise lose a rename. Windows neither needs nor allows it. */
async function syncDirectory(path: string): Promise<void> {
  let handle: FileHandle
  try {
    handle = await open(path, 'r')
  } catch (error) {
    if (hasCode(error, 'EISDIR', 'EPERM', 'EACCES')) return
    throw error
  }
  try {
    await handle.sync()
  } catch (error) {
    if (!hasCode(error, 'EINVAL', 'EPERM', 'EISDIR')) throw error
  } finally {
    await handle.close()
  }
}

/** Removes the directories that the save created, innermost first, up to the first that is not empty. */
async function removeEmpty(directory: string, outermost: string): Promise<void> {
  for (let path = directory; path.length >= outermost.length; path = dirname(path)) {
    const removed = await rmdir(path).then(
      () => true,
      () => false,
    )
    if (!removed) return
  }
}

function ignore(...codes: string[]): (error: unknown) => undefined {
  return (error) => {
    if (!hasCode(error, ...codes)) throw error
  }
}

function hasCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.some((code) => code === error.code)
}
