/** Saving an adapter to a directory that `loadAdapter`, and PEFT where it can, loads again. */

import { platform } from '#platform'
import type { Adapter } from '../adapter/adapter.js'
import { FourierFTError } from '../errors.js'
import type { WriteOptions } from './write-adapter.js'

const { fileSystem } = platform

/**
 * Writes `adapter_config.json` and `adapter_model.safetensors` as one: whatever happens, the directory holds the old adapter or the
 * new one. Other files in it stay. Node only.
 *
 * @param directory a path, or a `file:` URL
 * @param options the form of the files: see `Adapter.toBytes`, whose errors are thrown before anything is touched
 * @throws {FourierFTError} `INVALID_OPTION` for anything that names no directory, `IO_ERROR` where it cannot be written (the old adapter is
 *   intact), `UNSUPPORTED` without a file system
 */
export async function savePretrained(
  adapter: Adapter,
  directory: string | URL,
  options: WriteOptions = {},
): Promise<void> {
  if (!fileSystem) {
    throw new FourierFTError(
      'UNSUPPORTED',
      'there are no directories here; offer adapter.toBytes() as downloads',
      {
        received: String(directory),
      },
    )
  }
  const path = fileSystem.resolvePath(directory, 'directory')
  await fileSystem.writeDirectory(path, adapter.toBytes(options))
}
