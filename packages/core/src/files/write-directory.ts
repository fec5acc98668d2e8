/**
 * Saving the two files of an adapter as one. Node only.
 *
 * No file system replaces two files at once, so the save is written down first: both files go into a staging directory beside their
 * place and on to the disk, one rename turns it into the journal, and only then each file is renamed into place. A reader prefers
 * files of the journal, so that rename is the moment at which the new adapter takes the place of the old one, whole. What a crash
 * leaves after it, the next save finishes. Readers that do not know the journal (PEFT) can meet a new model with the old
 * configuration for the time between two renames; a save with an unchanged configuration changes one file and has no such time.
 *
 * write-file-atomic, which replaces one file, does not serve: it knows no second file, takes a write that a full disk cut short for
 * a whole one and puts it in place, and writes through symbolic links, which in the cache of the hub lead to shared blobs.
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
/** Staging directories of saves that were killed are swept away when they are this old. */
const STALE_MILLISECONDS = 60 * 60 * 1000
/** What `mkdtemp` makes of a staging directory's name. */
const STAGING = new RegExp(`^\\${JOURNAL}-[A-Za-z0-9]{6}$`)
const ATTEMPTS = 20

/**
 * Makes the directory where it does not exist. On failure the old adapter is there as it was, and nothing else.
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
    throw ioError(directory, 'the adapter could not be saved, what was there before is unchanged', cause)
  }
}

async function save(directory: string, files: AdapterBytes): Promise<void> {
  await finishSave(directory)
  const modes = await checkPlaces(directory)
  await sweep(directory)
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
      `the adapter was saved and lies in ${JOURNAL}, where the next save will take it from`,
      cause,
    )
  }
}

/** Another save may have committed at the same time: its files go into place first. */
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

/** Moves the files of a committed save into place. Whoever else does the same at the same time moves the same files. */
async function finishSave(directory: string): Promise<void> {
  const journal = join(directory, JOURNAL)
  for (const file of [MODEL_FILE, CONFIG_FILE]) {
    await rename(join(journal, file), join(directory, file)).catch(unless('ENOENT'))
  }
  await syncDirectory(directory)
  await rmdir(journal).catch(unless('ENOENT', 'ENOTEMPTY', 'EEXIST'))
}

/**
 * After the commit nothing should be able to fail: whatever is not a file cannot be replaced by one.
 *
 * @returns the permissions of the files that are replaced
 */
async function checkPlaces(directory: string): Promise<Map<string, number>> {
  const modes = new Map<string, number>()
  for (const file of [MODEL_FILE, CONFIG_FILE]) {
    const stats = await stat(join(directory, file)).catch(unless('ENOENT'))
    if (!stats) continue
    if (!stats.isFile()) throw new Error(`${file} is not a file`)
    modes.set(file, stats.mode & 0o7777)
  }
  return modes
}

async function sweep(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (!STAGING.test(name)) continue
    const path = join(directory, name)
    const stats = await lstat(path).catch(unless('ENOENT'))
    if (stats?.isDirectory() && Date.now() - stats.mtimeMs > STALE_MILLISECONDS) await removeStaging(path)
  }
}

/** What a save has put there; a directory that holds anything else is not ours alone, and stays. */
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

/** Without it a rename can be lost in a power failure. Windows neither needs nor allows it. */
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

/** The directories that the save made, innermost first, for as long as they are empty. */
async function removeEmpty(directory: string, outermost: string): Promise<void> {
  for (let path = directory; path.length >= outermost.length; path = dirname(path)) {
    const removed = await rmdir(path).then(
      () => true,
      () => false,
    )
    if (!removed) return
  }
}

function unless(...codes: string[]): (error: unknown) => undefined {
  return (error) => {
    if (!hasCode(error, ...codes)) throw error
  }
}

function hasCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.some((code) => code === error.code)
}
