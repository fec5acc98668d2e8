/** An adapter from a directory of the command line, which is never looked up on the hub. */
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { type Adapter, FourierFTError, loadAdapter } from '@fourierft/core'
import { usageError } from './command-error.js'
import { diagnosticLine } from './diagnostic-line.js'
import type { Output } from './output.js'

/** @throws FourierFTError as `loadAdapter`; where core's advice is its option `subfolder`, the directory to give instead */
export async function loadDirectory(directory: string, output: Output): Promise<Adapter> {
  if (directory === '') throw usageError('expected the directory of an adapter; received an empty text')
  try {
    return await loadAdapter(pathToFileURL(directory), {
      onWarning: (line) => output.diagnostic(`${diagnosticLine('WARNING', line)}\n`),
    })
  } catch (error) {
    if (!(FourierFTError.isInstance(error) && error.code === 'FILE_NOT_FOUND')) throw error
    const advice = error.advice?.replace(
      /pass \{ subfolder: '(.*)' \}/,
      (_, subfolder: string) => `give ${join(directory, subfolder)}`,
    )
    throw new FourierFTError(error.code, error.problem, {
      ...error.details,
      ...(advice !== undefined && { advice }),
    })
  }
}
