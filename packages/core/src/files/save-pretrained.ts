/** Saves an adapter to a directory. `loadAdapter` loads it again, and so does PEFT if it can reproduce the adapter. */

import { platform } from '#platform'
import type { Adapter } from '../adapter/adapter.js'
import { FourierFTError } from '../errors.js'
import type { WriteOptions } from './write-adapter.js'

const { fileSystem } = platform

/**
 * Writes `adapter_config.json` and `adapter_model.safetensors` as one change: even after a crash, the directory contains
 * either the old adapter or the new one. Other files in it stay. Node only.
 *
 * @param directory a path, or a `file:` URL
 * @param options the form of the files: see `Adapter.toBytes`, whose errors are thrown before anything is written
 * @throws {FourierFTError} `INVALID_OPTION` if `directory` is neither a path nor a `file:` URL, `IO_ERROR` if it cannot be written (the old
 *   adapter is intact), `UNSUPPORTED` without a file system
 */
export async function savePretrained(
  adapter: Adapter,
  directory: string | URL,
  options: WriteOptions = {},
): Promise<void> {
  if (!fileSystem) {
    throw new FourierFTError('UNSUPPORTED', 'this platform has no directories', {
      advice: 'offer adapter.toBytes() as downloads',
      received: String(directory),
    })
  }
  const path = fileSystem.resolvePath(directory, 'directory')
  await fileSystem.writeDirectory(path, adapter.toBytes(options))
}
