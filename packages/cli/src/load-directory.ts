/** Loads an adapter from a local directory, never from the hub. */
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { type Adapter, FourierFTError, loadAdapter } from '@fourierft/core'
import { usageError } from './command-error.js'
import { diagnosticLine } from './diagnostic-line.js'
import type { Output } from './output.js'

/** @throws FourierFTError the errors of `loadAdapter`; their advice names a directory instead of the option `subfolder` */
export async function loadDirectory(directory: string, output: Output): Promise<Adapter> {
  if (directory === '') throw usageError('expected the directory of an adapter; received an empty string')
  try {
    return await loadAdapter(pathToFileURL(directory), {
      onWarning: (line) => output.diagnostic(`${diagnosticLine('WARNING', line)}\n`),
    })
  } catch (error) {
    if (!(FourierFTError.isInstance(error) && error.code === 'FILE_NOT_FOUND')) throw error
    const nameDirectory = (text: string) =>
      text.replace(
        /pass \{ subfolder: '(.*)' \}/,
        (_, subfolder: string) => `give ${join(directory, subfolder)}`,
      )
    const { code, problem, advice, details } = error
    throw new FourierFTError(code, nameDirectory(problem), {
      ...details,
      ...(advice !== undefined && { advice: nameDirectory(advice) }),
    })
  }
}
