/** Checks a directory before a long computation whose result it gets. */
import { access, constants, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { FourierFTError } from '@fourierft/core'

/** @throws FourierFTError `IO_ERROR` if the path is not a directory, or cannot become one, in which files can be written */
export async function checkWritable(directory: string): Promise<void> {
  const failed = (reason: string, cause?: unknown) =>
    new FourierFTError('IO_ERROR', `${directory}: files cannot be written there: ${reason}`, {
      file: directory,
      cause,
    })
  for (let path = resolve(directory); ; path = dirname(path)) {
    const status = await stat(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined
      throw failed(error.message, error)
    })
    if (status === undefined) continue
    if (!status.isDirectory()) throw failed(`${path} is not a directory`)
    await access(path, constants.W_OK).catch((error: Error) => {
      throw failed(error.message, error)
    })
    return
  }
}
