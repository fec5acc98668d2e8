/** The two files of an adapter, as every source returns them, and the size limits and errors that all sources share. */

import { FourierFTError } from '../errors.js'
import type { AdapterBytes } from './adapter-bytes.js'

export const CONFIG_FILE = 'adapter_config.json'
export const MODEL_FILE = 'adapter_model.safetensors'

/** Names of the files in error messages. */
export interface FileNames {
  readonly config: string
  readonly model: string
}

export interface AdapterFiles extends AdapterBytes {
  readonly names: FileNames
}

/** Default size limit of a file: the largest that Node reads in one call. */
export const DEFAULT_MAX_BYTES = 2 ** 31 - 1

/** Size limit of the configuration, whatever the limit of the model file: 4 million characters of up to 4 bytes. */
export const MAX_CONFIG_BYTES = 16 * 2 ** 20

/** Checks the size of a file. @throws {FourierFTError} `FILE_TOO_LARGE` */
export function checkSize(size: number, maxBytes: number, file: string): void {
  if (size <= maxBytes) return
  throw new FourierFTError(
    'FILE_TOO_LARGE',
    `${file}: expected at most ${maxBytes} bytes; received ${size}`,
    {
      advice: 'raise maxBytes if the file should be that large',
      file,
      option: 'maxBytes',
      expected: maxBytes,
      received: size,
    },
  )
}

/** Makes the error of a missing file. @param expectation what the source should contain, or the reason why the file is missing */
export function notFound(file: string, expectation: string, advice?: string): FourierFTError {
  return new FourierFTError('FILE_NOT_FOUND', `${file} does not exist; ${expectation}`, {
    ...(advice !== undefined && { advice }),
    file,
  })
}

/** Returns advice for sources that cannot be listed: PEFT saves an adapter with a name into a subfolder of that name. */
export function subfolderHint(subfolder: string): string | undefined {
  if (subfolder !== '') return undefined
  return "if PEFT saved the adapter under a name, pass { subfolder: 'its name' }"
}

export function ioError(
  file: string,
  problem: string,
  { cause, advice }: { readonly cause?: unknown; readonly advice?: string } = {},
): FourierFTError {
  const reason = cause instanceof Error ? `: ${cause.message}` : ''
  return new FourierFTError('IO_ERROR', `${file}: ${problem}${reason}`, {
    ...(advice !== undefined && { advice }),
    file,
    cause,
  })
}
