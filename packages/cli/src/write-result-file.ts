/** Writes a result file completely or not at all: first a temporary file in the same folder, then a rename. */
import { randomUUID } from 'node:crypto'
import { open, realpath, rename, rm, stat, writeFile } from 'node:fs/promises'
import { FourierFTError } from '@fourierft/core'

/** What a file contains: all at once, or in pieces. */
export type Content = string | Uint8Array | AsyncIterable<Uint8Array>

/** @throws FourierFTError `IO_ERROR`, which names the file, and the errors of an iterable. A regular file is left unchanged on failure. */
export async function writeResultFile(file: string, content: Content): Promise<void> {
  try {
    const target = await realpath(file).catch(() => file)
    // A device or a pipe (/dev/stdout) must not be replaced.
    if (await isSpecial(target)) await writeFile(target, content)
    else await replaceFile(target, content)
  } catch (cause) {
    if (FourierFTError.isInstance(cause)) throw cause
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new FourierFTError('IO_ERROR', `${file}: could not be written: ${reason}`, { file, cause })
  }
}

async function isSpecial(path: string): Promise<boolean> {
  return stat(path).then(
    (stats) => !stats.isFile() && !stats.isDirectory(),
    () => false,
  )
}

async function replaceFile(target: string, content: Content): Promise<void> {
  const temporary = `${target}.${randomUUID()}.tmp`
  try {
    const replaced = await stat(target).catch(() => undefined)
    const handle = await open(temporary, 'wx')
    try {
      if (replaced) await handle.chmod(replaced.mode & 0o7777)
      await writeFile(handle, content)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(temporary, target)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}
