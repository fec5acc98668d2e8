/** The two files of an adapter as they come out of a source, and the bounds that every source keeps. */

import { FourierFTError } from '../errors.js'
import type { AdapterBytes } from './adapter-bytes.js'

export const CONFIG_FILE = 'adapter_config.json'
export const MODEL_FILE = 'adapter_model.safetensors'

/** What the files are called in error messages. */
export interface FileNames {
  readonly config: string
  readonly model: string
}

export interface AdapterFiles extends AdapterBytes {
  readonly names: FileNames
}

/** Bound of a file where the caller gives none: the largest that Node reads at once. */
export const DEFAULT_MAX_BYTES = 2 ** 31 - 1

/** Bound of the configuration, whatever the bound of the other file: 4 million characters are read, of up to 4 bytes. */
export const MAX_CONFIG_BYTES = 16 * 2 ** 20

/** @throws {FourierFTError} `FILE_TOO_LARGE` */
export function checkSize(size: number, maxBytes: number, file: string): void {
  if (size <= maxBytes) return
  throw new FourierFTError(
    'FILE_TOO_LARGE',
    `${file}: expected at most ${maxBytes} bytes; it has ${size}; raise maxBytes if that is right`,
    { file, option: 'maxBytes', expected: maxBytes, received: size },
  )
}

export function notFound(file: string, advice: string, cause?: unknown): FourierFTError {
  return new FourierFTError('FILE_NOT_FOUND', `${file} does not exist; ${advice}`, { file, cause })
}

/** For sources that cannot be listed: where PEFT puts adapters that have names. */
export function namedAdvice(subfolder: string): string {
  return subfolder === ''
    ? "; an adapter that PEFT saved by name lies in a subfolder of that name: pass { subfolder: 'its name' }"
    : ''
}

export function ioError(file: string, problem: string, cause?: unknown): FourierFTError {
  const reason = cause instanceof Error ? `: ${cause.message}` : ''
  return new FourierFTError('IO_ERROR', `${file}: ${problem}${reason}`, { file, cause })
}
