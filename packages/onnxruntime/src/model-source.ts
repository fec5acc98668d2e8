/** `ModelFile`: a model in a file, at a URL or in memory. It is read again for each graph that adapters need, so that it is not kept in memory. */
import { FourierFTError } from '@fourierft/core'
import { type ModelData, modelBytes, type OnnxModel, readModel, readModelFile } from '@fourierft/onnx'
import type { InferenceSession } from 'onnxruntime-common'
import { platform } from '#platform'

/** The path (Node) or URL of an `.onnx` file, its bytes, or a function that reads it whenever it is needed. */
export type ModelSource = string | URL | ModelData | (() => Promise<GivenModel>)

/** The result of a function that reads a model. */
export interface GivenModel extends Omit<ModelBytes, 'bytes'> {
  readonly bytes: ModelData
}

export interface ModelBytes {
  readonly bytes: Uint8Array
  /** The folder of the external data, if they are files. */
  readonly folder?: string
  /** The external data, if they are not files; as in ONNX Runtime's option of that name. */
  readonly externalData?: InferenceSession.SessionOptions['externalData']
}

/** A model that can be edited, and the location of its external data. */
export interface OpenModel extends Omit<ModelBytes, 'bytes'> {
  readonly model: OnnxModel
}

export class ModelFile {
  /** For messages. */
  readonly name: string
  readonly #source: string | URL | Uint8Array | (() => Promise<GivenModel>)
  readonly #keepsWeightsInFile: boolean

  /**
   * @param options.keepsWeightsInFile whether the weights of an edited model stay in its file, which requires a runtime that reads external
   *   data from files; so they are in memory once
   * @throws {FourierFTError} `INVALID_OPTION`
   */
  constructor(source: ModelSource, { keepsWeightsInFile }: { keepsWeightsInFile: boolean }) {
    const isLocation = typeof source === 'string' || typeof source === 'function' || source instanceof URL
    const accepted = isLocation ? source : modelBytes(source)
    if (accepted === undefined)
      throw new FourierFTError(
        'INVALID_OPTION',
        `model: expected a path, a URL, a Uint8Array, an ArrayBuffer or a function that reads the model; received ${source === null ? 'null' : typeof source}`,
        { option: 'model', received: source },
      )
    this.#source = accepted
    this.#keepsWeightsInFile = keepsWeightsInFile
    this.name = typeof source === 'string' || source instanceof URL ? String(source) : 'the model'
  }

  /** Returns the argument of `InferenceSession.create` for the original model. */
  async unchanged(): Promise<string | ModelBytes> {
    const path = this.#path
    if (path === undefined) return withUnsharedMemory(await this.read())
    const open = this.#keepsWeightsInFile ? await this.#openWithoutWeights(path) : undefined
    return open ? { bytes: open.model.toBytes(), folder: open.folder } : path
  }

  /**
   * Reads the model, to edit it.
   *
   * @throws {FourierFTError} `INVALID_ONNX`, `FILE_NOT_FOUND`, `IO_ERROR`
   */
  async open(): Promise<OpenModel> {
    const path = this.#path
    const open =
      path !== undefined && this.#keepsWeightsInFile ? await this.#openWithoutWeights(path) : undefined
    if (open) return open
    const { bytes, ...externalData } = await this.read()
    return { model: readModel(bytes, { file: this.name }), ...externalData }
  }

  /**
   * Opens the file, and leaves its weights there. Returns undefined if the path is a link and the model has other files of external data: these can
   * be in the folder of the link, and runtimes look in one folder only.
   */
  async #openWithoutWeights(path: string): Promise<(OpenModel & { readonly folder: string }) | undefined> {
    const { folder, name, isLink, size, read, close } = await platform.openFile(path)
    try {
      const model = await readModelFile(read, { size, location: name, file: this.name })
      const graphs = model.graph.graphs()
      const external = graphs.flatMap(({ initializers }) =>
        Array.from(initializers.values(), (tensor) => tensor.external?.location ?? name),
      )
      return isLink && external.some((location) => location !== name) ? undefined : { model, folder }
    } finally {
      await close()
    }
  }

  get #path(): string | undefined {
    const source = this.#source
    return typeof source === 'string' || source instanceof URL ? platform.localPath(source) : undefined
  }

  /**
   * Reads the bytes of the model.
   *
   * @throws {FourierFTError} `FILE_NOT_FOUND`, `IO_ERROR`; `INVALID_OPTION` for a wrong result of a function
   */
  async read(): Promise<ModelBytes> {
    const source = this.#source
    if (source instanceof Uint8Array) return { bytes: source }
    if (typeof source === 'function') {
      const read: GivenModel | undefined = await source()
      const bytes = modelBytes(read?.bytes)
      if (read && bytes) return { ...read, bytes }
      throw new FourierFTError(
        'INVALID_OPTION',
        'model: expected the function to return { bytes }, a Uint8Array or an ArrayBuffer; received another value',
        { option: 'model', received: read },
      )
    }
    const path = platform.localPath(source)
    return path === undefined ? { bytes: await download(source) } : platform.readFile(path)
  }
}

/** Copies bytes in shared memory, which onnxruntime-node rejects. */
function withUnsharedMemory(read: ModelBytes): ModelBytes {
  return read.bytes.buffer instanceof ArrayBuffer ? read : { ...read, bytes: read.bytes.slice() }
}

/**
 * Reads a part of a model's external data, from `externalData` or from a file in the model's folder.
 *
 * @throws {FourierFTError} `FILE_NOT_FOUND`, `IO_ERROR`
 */
export async function readBeside(
  location: string,
  offset: number,
  length: number,
  { folder, externalData = [] }: Omit<ModelBytes, 'bytes'>,
): Promise<Uint8Array> {
  const entry = externalData.find((candidate) => typeof candidate === 'object' && candidate.path === location)
  const data = typeof entry === 'object' ? entry.data : undefined
  if (data instanceof Uint8Array) return data.subarray(offset, offset + length)
  if (data instanceof Blob) return new Uint8Array(await data.slice(offset, offset + length).arrayBuffer())
  const path = typeof data === 'string' ? platform.localPath(data) : folder && `${folder}/${location}`
  if (path !== undefined) {
    const file = await platform.openFile(path)
    return file.read(offset, length).finally(() => file.close())
  }
  if (typeof data === 'string') return (await download(data)).subarray(offset, offset + length)
  throw new FourierFTError(
    'FILE_NOT_FOUND',
    `${location}, which contains weights of the model, is not available`,
    { advice: 'give it in the option externalData', file: location, option: 'externalData' },
  )
}

async function download(url: string | URL): Promise<Uint8Array> {
  const failed = (reason: string, cause?: unknown) =>
    new FourierFTError('IO_ERROR', `${url} could not be fetched: ${reason}`, { file: String(url), cause })
  try {
    const response = await fetch(url)
    if (!response.ok) throw failed(`${response.status} ${response.statusText}`)
    return new Uint8Array(await response.arrayBuffer())
  } catch (cause) {
    throw FourierFTError.isInstance(cause) ? cause : failed(reasonOf(cause), cause)
  }
}

/** Returns the message, and the reason of Node's `fetch failed`: the message of its cause, or a code if several addresses were tried. */
function reasonOf(error: unknown): string {
  const { message, cause } = error as Error
  const inner = (cause ?? {}) as { readonly message?: string; readonly code?: string }
  const reason = inner.message || inner.code
  return reason ? `${message} (${reason})` : message
}
