/** `ModelFile`: a model in a file, at a URL or in memory. It is read again for each graph that adapters need, and not kept in between. */
import { FourierFTError } from '@fourierft/core'
import { type ModelData, modelBytes, type OnnxModel, readModel, readModelFile } from '@fourierft/onnx'
import type { InferenceSession } from 'onnxruntime-common'
import { platform } from '#platform'

/** The path (Node) or URL of an `.onnx` file, its bytes, or a function that reads it whenever it is needed. */
export type ModelSource = string | URL | ModelData | (() => Promise<GivenModel>)

/** The result of such a function. */
export interface GivenModel extends Omit<ModelBytes, 'bytes'> {
  readonly bytes: ModelData
}

export interface ModelBytes {
  readonly bytes: Uint8Array
  /** The folder of its external data, if they are files. */
  readonly folder?: string
  /** Its external data as ONNX Runtime's option of that name takes them, if they are not files. */
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
  readonly #leavesWeights: boolean

  /**
   * @param options.leavesWeights whether the runtime reads external data from files. Then the weights of an edited model stay in its file, and
   *   are in memory once.
   * @throws {FourierFTError} `INVALID_OPTION`
   */
  constructor(source: ModelSource, { leavesWeights }: { leavesWeights: boolean }) {
    const isReadLater = typeof source === 'string' || typeof source === 'function' || source instanceof URL
    const readable = isReadLater ? source : modelBytes(source)
    if (readable === undefined)
      throw new FourierFTError(
        'INVALID_OPTION',
        `model: expected a path, a URL, a Uint8Array, an ArrayBuffer or a function that reads it; received ${source === null ? 'null' : typeof source}`,
        { option: 'model', received: source },
      )
    this.#source = readable
    this.#leavesWeights = leavesWeights
    this.name = typeof source === 'string' || source instanceof URL ? String(source) : 'the model'
  }

  /** The argument of `InferenceSession.create` for the original model. */
  async unchanged(): Promise<string | ModelBytes> {
    const path = this.#path
    if (path === undefined) return withUnsharedMemory(await this.read())
    const open = this.#leavesWeights ? await this.#openWithoutWeights(path) : undefined
    return open ? { bytes: open.model.toBytes(), folder: open.folder } : path
  }

  /**
   * Reads the model, to edit it.
   *
   * @throws {FourierFTError} `INVALID_ONNX`, `FILE_NOT_FOUND`, `IO_ERROR`
   */
  async open(): Promise<OpenModel> {
    const path = this.#path
    const open = path !== undefined && this.#leavesWeights ? await this.#openWithoutWeights(path) : undefined
    if (open) return open
    const { bytes, ...externalData } = await this.read()
    return { model: readModel(bytes, { file: this.name }), ...externalData }
  }

  /**
   * Undefined if the path is a link and the model has external data files, which need not be beside the file that the link leads to: runtimes
   * look in one folder only.
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

  /** @throws {FourierFTError} `FILE_NOT_FOUND`, `IO_ERROR`; `INVALID_OPTION` for a wrong result of a function */
  async read(): Promise<ModelBytes> {
    const source = this.#source
    if (source instanceof Uint8Array) return { bytes: source }
    if (typeof source === 'function') {
      const read: GivenModel | undefined = await source()
      const bytes = modelBytes(read?.bytes)
      if (read && bytes) return { ...read, bytes }
      throw new FourierFTError(
        'INVALID_OPTION',
        'model: expected the function to return { bytes }, a Uint8Array or an ArrayBuffer; it returned something else',
        { option: 'model', received: read },
      )
    }
    const path = platform.localPath(source)
    return path === undefined ? { bytes: await download(source) } : platform.readFile(path)
  }
}

/** onnxruntime-node rejects shared memory, so it gets a copy. */
function withUnsharedMemory(read: ModelBytes): ModelBytes {
  return read.bytes.buffer instanceof ArrayBuffer ? read : { ...read, bytes: read.bytes.slice() }
}

/**
 * Reads a part of a model's external data, which is in `externalData` or in the model's folder.
 *
 * @throws {FourierFTError} `FILE_NOT_FOUND`, `IO_ERROR`
 */
export async function readBeside(
  location: string,
  offset: number,
  length: number,
  { folder, externalData = [] }: Omit<ModelBytes, 'bytes'>,
): Promise<Uint8Array> {
  const entry = externalData.find((one) => typeof one === 'object' && one.path === location)
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
    `${location}, which holds weights of the model, is not available`,
    { advice: 'give it as externalData', file: location, option: 'externalData' },
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

/** Node's `fetch` says `fetch failed`; the reason is in the error's cause, which has only a code if several addresses were tried. */
function reasonOf(error: unknown): string {
  const { message, cause } = error as Error
  const inner = (cause ?? {}) as { readonly message?: string; readonly code?: string }
  const reason = inner.message || inner.code
  return reason ? `${message} (${reason})` : message
}
