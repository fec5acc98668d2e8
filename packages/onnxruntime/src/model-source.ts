/** Where a model is: a file, a URL or memory. It is read again for each graph that adapters need, and not held in between. */
import { FourierFTError } from '@fourierft/core'
import type { InferenceSession } from 'onnxruntime-common'
import { platform } from '#platform'

/** A path (Node) or URL of a file `.onnx`, its bytes, or a function that reads it whenever it is needed. */
export type ModelSource = string | URL | Uint8Array | (() => Promise<ModelBytes>)

export interface ModelBytes {
  readonly bytes: Uint8Array
  /** Where its external data are, if that is a folder of this machine. */
  readonly folder?: string
  /** Its external data as ONNX Runtime's option of that name takes them, where they are in no folder. */
  readonly externalData?: InferenceSession.SessionOptions['externalData']
}

export class ModelFile {
  /** For messages. */
  readonly name: string
  readonly #source: ModelSource

  /** @throws {FourierFTError} `INVALID_OPTION` */
  constructor(source: ModelSource) {
    const isSource = ['string', 'function'].includes(typeof source)
    if (!(isSource || source instanceof URL || source instanceof Uint8Array))
      throw new FourierFTError(
        'INVALID_OPTION',
        `model: expected a path, a URL, a Uint8Array or a function that reads it; received ${source === null ? 'null' : typeof source}`,
        { option: 'model', received: source },
      )
    this.#source = source
    this.name = typeof source === 'string' || source instanceof URL ? String(source) : 'the model'
  }

  /** What a session of the model as it is can be made from: a path is left to the runtime. */
  async asIs(): Promise<string | ModelBytes> {
    const source = this.#source
    const path = typeof source === 'string' || source instanceof URL ? platform.pathOf(source) : undefined
    return path ?? (await this.read())
  }

  /** @throws {FourierFTError} `FILE_NOT_FOUND`, `IO_ERROR` */
  async read(): Promise<ModelBytes> {
    const source = this.#source
    if (source instanceof Uint8Array) return { bytes: source }
    if (typeof source === 'function') return source()
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
