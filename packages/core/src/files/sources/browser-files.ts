/** Reads an adapter from the `File`s of a file input or of drag and drop. */
import { FourierFTError } from '../../errors.js'
import {
  type AdapterFiles,
  CONFIG_FILE,
  checkSize,
  ioError,
  MAX_CONFIG_BYTES,
  MODEL_FILE,
} from '../adapter-files.js'

/**
 * Finds and reads the two files.
 *
 * @throws {FourierFTError} `FILE_NOT_FOUND`, `INVALID_OPTION` for two files with the same name, `FILE_TOO_LARGE`, `IO_ERROR`
 */
export async function readBrowserFiles(files: Iterable<File>, maxBytes: number): Promise<AdapterFiles> {
  const list = [...files]
  const config = pick(list, CONFIG_FILE, Math.min(maxBytes, MAX_CONFIG_BYTES))
  const model = pick(list, MODEL_FILE, maxBytes)
  return {
    config: await read(config),
    model: await read(model),
    names: { config: nameOf(config), model: nameOf(model) },
  }
}

function pick(files: readonly File[], name: string, maxBytes: number): File {
  const found = files.filter((file) => file.name === name)
  const [file] = found
  if (!file) {
    throw new FourierFTError('FILE_NOT_FOUND', `${name} is not among the ${files.length} files`, {
      advice: `choose ${CONFIG_FILE} and ${MODEL_FILE} together`,
      file: name,
      expected: name,
      received: files.slice(0, 5).map((other) => other.name),
    })
  }
  if (found.length > 1) {
    throw new FourierFTError(
      'INVALID_OPTION',
      `expected one ${name}; received ${found.map(nameOf).join(', ')}`,
      { file: name, option: 'source', expected: 1, received: found.length },
    )
  }
  checkSize(file.size, maxBytes, name)
  return file
}

async function read(file: File): Promise<Uint8Array> {
  const buffer = await file.arrayBuffer().catch((cause) => {
    throw ioError(file.name, 'the file could not be read', { cause })
  })
  return new Uint8Array(buffer)
}

/** Returns the file's name, with its folders if a whole directory was chosen. */
function nameOf(file: File): string {
  return file.webkitRelativePath || file.name
}
