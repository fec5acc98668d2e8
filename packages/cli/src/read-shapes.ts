/** Reads the shapes of layers from a JSON file `{"module": [out, in], …}`, because adapters that PEFT saved do not contain them. */
import { readFile } from 'node:fs/promises'
import { FourierFTError, parseJson, type Shape } from '@fourierft/core'

/**
 * @throws FourierFTError `FILE_NOT_FOUND` or `IO_ERROR` if the file cannot be read, `INVALID_JSON` if it is not JSON, `INVALID_OPTION` if
 *   it contains anything other than shapes
 */
export async function readShapes(file: string): Promise<Readonly<Record<string, Shape>>> {
  const value = parseJson(await readBytes(file), file)
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new FourierFTError('INVALID_OPTION', `${file}: expected an object {"module": [out, in], …}`, {
      file,
    })
  }
  const shapes: Record<string, Shape> = {}
  for (const [module, shape] of Object.entries(value)) {
    if (!isShape(shape)) {
      throw new FourierFTError(
        'INVALID_OPTION',
        `${file}: module "${module}": expected [out, in], two positive integers; received ${JSON.stringify(shape)}`,
        { file, module, expected: '[out, in]', received: shape },
      )
    }
    shapes[module] = shape
  }
  return shapes
}

function isShape(value: unknown): value is Shape {
  return Array.isArray(value) && value.length === 2 && value.every((d) => Number.isSafeInteger(d) && d >= 1)
}

async function readBytes(file: string): Promise<Uint8Array> {
  try {
    return await readFile(file)
  } catch (cause) {
    const isMissing = cause instanceof Error && 'code' in cause && cause.code === 'ENOENT'
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new FourierFTError(
      isMissing ? 'FILE_NOT_FOUND' : 'IO_ERROR',
      `${file}: could not be read (${reason})`,
      { advice: 'give a JSON file {"module": [out, in], …}', file, cause },
    )
  }
}
