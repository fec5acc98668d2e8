/** Where a model is: a file, a URL or memory. It is read again for each graph that adapters need, and not held in between. */
import { FourierFTError } from '@fourierft/core'
import { platform } from '#platform'

/** A path (Node) or URL of a file `.onnx`, or its bytes. */
export type ModelSource = string | URL | Uint8Array

export interface ModelBytes {
  readonly bytes: Uint8Array
  /** Where its external data are, if that is a folder of this machine. */
  readonly folder?: string
}

export class ModelFile {
  /** For messages. */
  readonly name: string
  readonly #source: ModelSource

  /** @throws {FourierFTError} `INVALID_OPTION` */
  constructor(source: ModelSource) {
    if (!(typeof source === 'string' || source instanceof URL || source instanceof Uint8Array))
      throw new FourierFTError(
        'INVALID_OPTION',
        `model: expected a path, a URL or a Uint8Array; received ${source === null ? 'null' : typeof source}`,
        { option: 'model', received: source },
      )
    this.#source = source
    this.name = source instanceof Uint8Array ? 'the model' : String(source)
  }

  /** What a session of the model as it is can be made from: a path is left to the runtime. */
  async asIs(): Promise<string | Uint8Array> {
    const source = this.#source
    const path = source instanceof Uint8Array ? undefined : platform.pathOf(source)
    return path ?? (await this.read()).bytes
  }

  /** @throws {FourierFTError} `FILE_NOT_FOUND`, `IO_ERROR` */
  async read(): Promise<ModelBytes> {
    const source = this.#source
    if (source instanceof Uint8Array) return { bytes: source }
    const path = platform.pathOf(source)
    return path === undefined ? { bytes: await download(source) } : platform.readFile(path)
  }
}

async function download(url: string | URL): Promise<Uint8Array> {
  const failed = (reason: string, cause?: unknown) =>
    new FourierFTError('IO_ERROR', `${url} could not be fetched: ${reason}`, { file: String(url), cause })
  try {
    const response = await fetch(url)
    if (!response.ok) throw failed(`${response.status} ${response.statusText}`)
    return new Uint8Array(await response.arrayBuffer())
  } catch (cause) {
    throw cause instanceof FourierFTError ? cause : failed((cause as Error).message, cause)
  }
}
